"""Establishes who is asking; whether that suffices is for the `context` step to say."""

from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network

from imgservice.domain.context import Context
from imgservice.domain.errors import NotAuthenticated
from imgservice.web.addresses import is_within
from imgservice.web.respond import Answer
from imgservice.web.streaming import StreamingRequest


class EverybodyIs:
    """The mode `none`: everybody is the one user of the configuration."""

    def __init__(self, everybody: Context) -> None:
        self._everybody = everybody

    async def __call__(self, request: StreamingRequest) -> Answer | None:
        request.context = self._everybody
        request.identified = True
        return None


class TrustedHeaders:
    """The mode `trusted_headers`: a proxy at a listed address has authenticated the user."""

    def __init__(self, trusted: Sequence[IPv4Network | IPv6Network]) -> None:
        self._trusted = trusted

    async def __call__(self, request: StreamingRequest) -> Answer | None:
        if is_within(request.peer, self._trusted):
            self._believe(request)
        return None

    def _believe(self, request: StreamingRequest) -> None:
        if (_only(request, "x-identity-status") or "").lower() != "confirmed":
            return
        request.context = Context(
            user=_only(request, "x-user-id"),
            project=_only(request, "x-project-id") or _only(request, "x-tenant-id"),
            roles=_roles(_only(request, "x-roles")),
            service_roles=_service_roles(request),
        )
        request.identified = True


def _service_roles(request: StreamingRequest) -> frozenset[str]:
    if (_only(request, "x-service-identity-status") or "").lower() != "confirmed":
        return frozenset()
    return _roles(_only(request, "x-service-roles"))


def _roles(text: str | None) -> frozenset[str]:
    return frozenset(role.strip().lower() for role in (text or "").split(",") if role.strip())


def _only(request: StreamingRequest, name: str) -> str | None:
    """Return the header's value; a second one was put there by somebody else than the proxy."""
    values = request.header_values(name)
    if len(values) > 1:
        raise NotAuthenticated(f"The header {name} is there more than once.")
    return values[0].strip() or None if values else None
