"""What checks can ask about: the caller and the target, by the names of the policy language."""

from collections.abc import Iterator, Mapping, MutableMapping

from imgservice.domain.access import Owned, Target, owns
from imgservice.domain.context import Context

Credentials = MutableMapping[str, str | bool | list[str] | None]
"""What is known of a caller, by name."""

CREDENTIALS = (
    "user_id",
    "user_domain_id",
    "project_id",
    "project_domain_id",
    "domain_id",
    "system_scope",
    "system",
    "roles",
    "is_admin_project",
    "service_user_id",
    "service_roles",
)
"""What `NAME:...` in a check can be. Glance has more names for the service that asks."""
_MEMBER = ("member_id", "member")
"""Names for the caller's project in `%(NAME)s`; they hide custom properties of these names."""


def credentials(context: Context) -> Credentials:
    """Return what is known of the caller.

    What is not known is left out: a caller without a project would otherwise be of the same
    project as an image without an owner.
    """
    found = {
        "user_id": context.user,
        "user_domain_id": context.user_domain,
        "project_id": context.project,
        "project_domain_id": context.project_domain,
        "domain_id": context.domain,
        "system_scope": context.system_scope,
        "system": context.system_scope,
        "service_user_id": context.service_user,
    }
    known: Credentials = {
        name: value for name, value in found.items() if value is not None and value != "None"
    }
    known["roles"] = list(context.roles)
    known["service_roles"] = list(context.service_roles)
    known["is_admin_project"] = True
    return known


def stand_in(context: Context, rule: str) -> Mapping[str, object]:
    """Return what a rule about no target is asked about instead."""
    if rule == "context_is_admin":
        known = credentials(context)
        names = (("user", "user_id"), ("tenant", "project_id"), ("project", "project_id"))
        return {**known, **{old: known[new] for old, new in names if new in known}}
    return {"project_id": context.project} if rule == "get_images" else {}


def described(target: Owned) -> Mapping[str, object]:
    """Return what is known of a target that is still to be created."""
    return {"project_id": target.owner, "owner": target.owner, "visibility": target.visibility}


class TargetNames(Mapping[str, object]):
    """A target that exists, by the names that checks use."""

    def __init__(self, context: Context, target: Target) -> None:
        self._context = context
        self._target = target
        self._fields = target.fields

    def __getitem__(self, name: str) -> object:
        return self._member() if name in _MEMBER else self._fields[name]

    def _member(self) -> str | None:
        """Return the caller's project where it sees the target because this is shared with it."""
        is_shared = self._target.visibility == "shared"
        is_theirs = is_shared and not owns(self._context, self._target)
        return self._context.project if is_theirs else None

    def __iter__(self) -> Iterator[str]:
        yield from _MEMBER
        yield from (name for name in self._fields if name not in _MEMBER)

    def __len__(self) -> int:
        return len(list(iter(self)))
