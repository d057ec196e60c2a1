"""Who is asking."""

from collections.abc import Set

import attrs


@attrs.frozen
class Context:
    """One request's asker, as some authentication established it."""

    user: str | None = None
    project: str | None = None
    roles: Set[str] = frozenset()
    """Lower-cased."""
    is_admin: bool = False
    read_only: bool = False
    """True for an anonymous asker, who may look but never change anything."""
    service_roles: Set[str] = frozenset()
    """Those of a service that asks on behalf of the user; lower-cased."""
