"""The caller of a request."""

from collections.abc import Set

import attrs


@attrs.frozen
class Context:
    """The caller, as authentication established it."""

    user: str | None = None
    project: str | None = None
    roles: Set[str] = frozenset()
    """In lower case."""
    is_admin: bool = False
    read_only: bool = False
    """Whether the caller is anonymous, and may read but never change anything."""
    user_domain: str | None = None
    project_domain: str | None = None
    system_scope: str | None = None
    """`all` when the token is for the whole cloud and not for a project."""
    domain: str | None = None
    """The domain, when the token is for one and not for a project."""
    service_user: str | None = None
    """The service that acts on behalf of the user, if its own token was valid."""
    service_roles: Set[str] = frozenset()
    """Its roles, in lower case."""
