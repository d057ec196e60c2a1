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
    user_domain: str | None = None
    project_domain: str | None = None
    system_scope: str | None = None
    """`all` when he asks for the whole cloud and not for a project."""
    domain: str | None = None
    """The domain that he asks for, when it is that and not a project."""
    service_user: str | None = None
    """The service that asks in the user's name, if one does and has proven who it is."""
    service_roles: Set[str] = frozenset()
    """Its roles, lower-cased."""
