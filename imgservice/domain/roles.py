"""Roles that imply others, as Keystone's default roles do, and the roles that exist."""

import difflib
from collections.abc import Iterable, Mapping, Set

import attrs

IMPLIED: Mapping[str, Set[str]] = {
    "admin": frozenset({"manager", "member", "reader"}),
    "manager": frozenset({"member", "reader"}),
    "member": frozenset({"reader"}),
}
"""As `keystone-manage bootstrap` creates them. Tokens of Keystone contain implied roles."""


def with_implied(roles: Iterable[str]) -> frozenset[str]:
    """Return the roles and the roles that they imply, in lower case."""
    named = frozenset(role.lower() for role in roles)
    return named.union(*(IMPLIED.get(role, ()) for role in named))


STANDARD = frozenset({*IMPLIED, "reader", "service"})
"""The roles in the default rules, and those that imply them."""


@attrs.frozen
class KnownRoles:
    """The roles that callers can have, as far as known."""

    names: frozenset[str] = STANDARD
    """In lower case."""
    are_all: bool = False
    """Whether there are no others. With Keystone there may be, for example."""

    def warning(self, role: str) -> str | None:
        """Return a warning if the role is unknown, which may be a mistake."""
        if role.lower() in self.names:
            return None
        close = difflib.get_close_matches(role.lower(), sorted(self.names), 1, cutoff=0.75)
        if not close and not self.are_all:
            return None
        hint = (
            f"; did you mean {close[0]}?" if close else f" (known: {', '.join(sorted(self.names))})"
        )
        return f"no user and no default rule has the role {role!r}{hint}"
