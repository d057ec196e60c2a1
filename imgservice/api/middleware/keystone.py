"""Identifies the caller by a token of Keystone."""

from collections.abc import Set

import attrs

from imgservice.auth.keystone.access_rules import permits
from imgservice.auth.keystone.identity import Identity
from imgservice.auth.keystone.tokens import KeystoneTokens
from imgservice.domain.context import Context
from imgservice.http.request import StreamingRequest
from imgservice.http.response import Response


def challenge_of(url: str) -> str:
    """Return the challenge that tells clients where to get a token."""
    return f'Keystone uri="{url}"'


class KeystoneToken:
    """The mode `keystone`: X-Auth-Token, and X-Service-Token of a service that acts for a user.

    An invalid token counts as none: the `context` step decides what that means.
    """

    def __init__(
        self,
        tokens: KeystoneTokens,
        service_roles: Set[str],
        service_roles_required: bool,
    ) -> None:
        """`service_roles` are in lower case; a token with one of them is that of a service."""
        self._tokens = tokens
        self._service_roles = service_roles
        self._service_roles_required = service_roles_required

    async def __call__(self, request: StreamingRequest) -> Response | None:
        token = _only(request, b"x-auth-token") or _only_if_alone(request)
        if token is None:
            return None
        service = await self._service(request)
        identity = await self._tokens.identify(
            token, request.source, service is not None and self._is_service(service)
        )
        if identity is None or not self._permits(identity, service, request):
            return None
        request.context = identity.context if service is None else _both(identity, service)
        request.identified = True
        return None

    async def _service(self, request: StreamingRequest) -> Identity | None:
        """Return the service that acts for the user; None without a valid service token."""
        if not request.requestHeaders.hasHeader(b"x-service-token"):
            return None
        token = _only(request, b"x-service-token")
        service = await self._tokens.identify(token, request.source) if token else None
        if service is None:
            return None
        if self._service_roles_required and not self._is_service(service):
            return None
        return service

    def _is_service(self, service: Identity) -> bool:
        return not self._service_roles.isdisjoint(service.context.roles)

    def _permits(
        self, identity: Identity, service: Identity | None, request: StreamingRequest
    ) -> bool:
        """Return whether the token's access rules allow the request; services may do anything."""
        if identity.access_rules is None or (service is not None and self._is_service(service)):
            return True
        method = request.method.decode("latin-1")
        return permits(identity.access_rules, method, request.path.decode("latin-1"))


def _both(identity: Identity, service: Identity) -> Context:
    return attrs.evolve(
        identity.context,
        service_user=service.context.user,
        service_roles=service.context.roles,
    )


def _only(request: StreamingRequest, name: bytes) -> bytes | None:
    """Return the header's value; None when there are several."""
    values = request.requestHeaders.getRawHeaders(name, ())
    return values[0].strip() if len(values) == 1 else None


def _only_if_alone(request: StreamingRequest) -> bytes | None:
    """Return the older header's value, which counts only without the newer one."""
    if request.requestHeaders.hasHeader(b"x-auth-token"):
        return None
    return _only(request, b"x-storage-token")
