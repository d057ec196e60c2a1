"""Conditions of the default rules: their text in the policy language, and functions to decide them.

The functions are many times faster than the library that reads the language, and know more than it
can say: a shared image, for example, is visible only to the projects that it is shared with.
"""

from collections.abc import Callable

import attrs

from imgservice.domain.access import Owned, is_visible, owns
from imgservice.domain.context import Context

Decide = Callable[[Context, Owned], bool]


@attrs.frozen
class Condition:
    """What a caller must be, or must be to the target."""

    text: str
    """In the policy language."""
    holds: Decide


# -- combinations ---------------------------------------------------------------------------------


def either(one: Condition, other: Condition, grouped: bool = False) -> Condition:
    first, second = one.holds, other.holds
    return Condition(
        f"{one.text} or {f'({other.text})' if grouped else other.text}",
        lambda context, target: first(context, target) or second(context, target),
    )


def role_and(name: str, condition: Condition) -> Condition:
    holds = condition.holds
    return Condition(
        _joined(name, condition),
        lambda context, target: name in context.roles and holds(context, target),
    )


def admin_or_role_and(name: str, condition: Condition, grouped: bool = True) -> Condition:
    """Return `either(ADMIN, role_and(name, condition))`, decided in one call for most rules.

    Not `grouped` are the few that Glance writes without parentheses.
    """
    holds, text = condition.holds, _joined(name, condition)
    return Condition(
        f"{ADMIN.text} or {f'({text})' if grouped else text}",
        lambda context, target: (
            context.is_admin or (name in context.roles and holds(context, target))
        ),
    )


def _joined(name: str, condition: Condition) -> str:
    text = f"({condition.text})" if " or " in condition.text else condition.text
    return f"role:{name} and {text}"


# -- about the caller -----------------------------------------------------------------------------


def role(name: str) -> Condition:
    return Condition(f"role:{name}", lambda context, target: name in context.roles)


def _everybody(context: Context, target: Owned) -> bool:
    return True


def _is_service(context: Context, target: Owned) -> bool:
    return "service" in context.roles or "admin" in context.roles


EVERYBODY = Condition("", _everybody)
BY_DEFAULT = Condition("rule:default", _everybody)
ADMIN = Condition("rule:context_is_admin", lambda context, target: context.is_admin)
METADEF_ADMIN = Condition("rule:metadef_admin", ADMIN.holds)
SERVICE = Condition("rule:service_api", _is_service)


# -- about the target -----------------------------------------------------------------------------


def _is_offered(context: Context, target: Owned) -> bool:
    """Tell whether a target is visible; one without an owner is for all, unless it is private."""
    is_hidden = target.owner is None and target.visibility == "private"
    return not is_hidden and is_visible(context, target)


def _is_shared(context: Context, target: Owned) -> bool:
    if context.project is None or target.visibility != "shared":
        return False
    return not owns(context, target) and is_visible(context, target)


def _owns_or_shares(context: Context, target: Owned) -> bool:
    return owns(context, target) or _is_shared(context, target)


def _is_serving(context: Context, target: Owned) -> bool:
    return not context.read_only and _is_service(context, target) and is_visible(context, target)


def _owns_or_reads(context: Context, target: Owned) -> bool:
    return target.visibility == "public" or (not context.read_only and owns(context, target))


_OWNER, _MEMBER, _PUBLIC = (
    "project_id:%(project_id)s",
    "project_id:%(member_id)s",
    "'public':%(visibility)s",
)
LISTER = Condition(
    f"{ADMIN.text} or (role:reader and {_OWNER})",
    lambda context, target: context.is_admin or "reader" in context.roles,
)
"""For lists, where the caller's own project stands for the target."""
OWNER = Condition(_OWNER, owns)
CREATOR = Condition(f"{_OWNER} and project_id:%(owner)s", owns)
SHARED = Condition(_MEMBER, _is_shared)
OWNER_OR_SHARED = Condition(f"{_OWNER} or {_MEMBER}", _owns_or_shares)
OFFERED = Condition(
    f"{_OWNER} or {_MEMBER} or 'community':%(visibility)s or {_PUBLIC} or 'shared':%(visibility)s",
    _is_offered,
)
"""Owned by the caller's project, shared with it, or open to all."""
SERVED = Condition(SERVICE.text, _is_serving)
"""Visible to another service."""
OWNER_OR_PUBLIC = Condition(f"{_OWNER} or {_PUBLIC}", _owns_or_reads)
