"""Modes of authentication without tokens.

These steps identify the caller; the `context` step decides whether that suffices.
"""

from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network

import attrs

from imgservice.domain.context import Context
from imgservice.domain.errors import NotAuthenticated
from imgservice.http.networks import is_within
from imgservice.http.request import StreamingRequest
from imgservice.http.response import Response

IDENTITY_HEADERS = (
    "x-identity-status",
    "x-user-id",
    "x-project-id",
    "x-tenant-id",
    "x-roles",
    "x-user-domain-id",
    "x-project-domain-id",
    "openstack-system-scope",
    "x-domain-id",
    "x-service-identity-status",
    "x-service-user-id",
    "x-service-roles",
)
"""The headers that `TrustedHeaders` reads."""


class FixedIdentity:
    """The mode `none`: every caller is the user that the configuration names."""

    def __init__(self, everybody: Context) -> None:
        self._everybody = everybody

    async def __call__(self, request: StreamingRequest) -> Response | None:
        request.context = self._everybody
        request.identified = True
        return None


class TrustedHeaders:
    """The mode `trusted_headers`: a proxy at a listed address has authenticated the user."""

    def __init__(self, trusted: Sequence[IPv4Network | IPv6Network]) -> None:
        self._trusted = trusted

    async def __call__(self, request: StreamingRequest) -> Response | None:
        if is_within(request.peer, self._trusted):
            self._believe(request)
        return None

    def _believe(self, request: StreamingRequest) -> None:
        if (_only(request, "x-identity-status") or "").lower() != "confirmed":
            return
        request.context = Context(
            user=_only(request, "x-user-id"),
            project=_only(request, "x-project-id") or _only(request, "x-tenant-id"),
            roles=_roles(request, "x-roles"),
            user_domain=_only(request, "x-user-domain-id"),
            project_domain=_only(request, "x-project-domain-id"),
            system_scope=_only(request, "openstack-system-scope"),
            domain=_only(request, "x-domain-id"),
        )
        request.identified = True
        if (_only(request, "x-service-identity-status") or "").lower() == "confirmed":
            request.context = attrs.evolve(
                request.context,
                service_user=_only(request, "x-service-user-id"),
                service_roles=_roles(request, "x-service-roles"),
            )


def _roles(request: StreamingRequest, name: str) -> frozenset[str]:
    roles = (_only(request, name) or "").split(",")
    return frozenset(role.strip().lower() for role in roles if role.strip())


def _only(request: StreamingRequest, name: str) -> str | None:
    """Return the header's value; a second value cannot come from the proxy."""
    values = request.header_values(name)
    if len(values) > 1:
        raise NotAuthenticated(f"The header {name} is there more than once.")
    return values[0].strip() or None if values else None
