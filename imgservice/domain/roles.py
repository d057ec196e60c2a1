"""Roles that include others, as Keystone's default roles do."""

from collections.abc import Iterable, Mapping, Set

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
