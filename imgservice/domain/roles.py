"""Roles that include others, as Keystone's default roles do."""

import difflib
from collections.abc import Iterable, Mapping, Set

import attrs

IMPLIED: Mapping[str, Set[str]] = {
    "admin": frozenset({"manager", "member", "reader"}),
    "manager": frozenset({"member", "reader"}),
    "member": frozenset({"reader"}),
}
"""What `keystone-manage bootstrap` makes. A token of Keystone names the implied roles already."""


def with_implied(roles: Iterable[str]) -> frozenset[str]:
    """Return the roles in lower case, with those that they imply."""
    named = frozenset(role.lower() for role in roles)
    return named.union(*(IMPLIED.get(role, ()) for role in named))


STANDARD = frozenset({*IMPLIED, "reader", "service"})
"""The roles that rules have by default, and those that imply them."""


@attrs.frozen
class KnownRoles:
    """The roles that callers can have, as far as this can be known."""

    names: frozenset[str] = STANDARD
    """In lower case."""
    are_all: bool = False
    """Whether nobody can have another one; elsewhere, as in Keystone, somebody may."""

    def doubt(self, role: str) -> str | None:
        """Return why the name of a role may be a mistake; None when it is known, or may well be."""
        if role.lower() in self.names:
            return None
        close = difflib.get_close_matches(role.lower(), sorted(self.names), 1, cutoff=0.75)
        if not close and not self.are_all:
            return None
        hint = (
            f"; did you mean {close[0]}?" if close else f" (known: {', '.join(sorted(self.names))})"
        )
        return f"no user and no default rule has the role {role!r}{hint}"
