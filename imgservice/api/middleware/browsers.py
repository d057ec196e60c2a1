"""Protects against cross-site request forgery (CSRF) and DNS rebinding.

A page of any site can make a browser send requests to this machine. With them goes what the mode of
authentication accepts as proof: the address, a remembered password or a certificate. See
docs/how-to/without-keystone.md.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from ipaddress import ip_address

from imgservice.domain.errors import Forbidden
from imgservice.http.pipeline import Step
from imgservice.http.request import NO_ADDRESS, StreamingRequest
from imgservice.http.response import Response

SAFE = frozenset((b"GET", b"HEAD", b"OPTIONS"))
"""These change nothing, and browsers do not show their responses to pages of other sites."""


Guard = Callable[[StreamingRequest], None]
"""Raises to refuse a request."""


class Guarded:
    """Calls each guard, which may raise, before the step that identifies the caller."""

    def __init__(self, guards: Sequence[Guard], step: Step) -> None:
        self._guards = tuple(guards)
        self._step = step

    async def __call__(self, request: StreamingRequest) -> Response | None:
        for guard in self._guards:
            guard(request)
        return await self._step(request)


class KnownHosts:
    """Refuses requests for host names that are not ours.

    The owner of a name can point it to this machine. To a browser, pages that were served under
    that name are then of the same site as this service. Addresses cannot be used like that.
    """

    def __init__(self, names: Sequence[str], option: str) -> None:
        self._names = frozenset(("localhost", *(name.lower() for name in names)))
        self._option = option
        self._is_own = lru_cache(1024)(self._find_out)

    def __call__(self, request: StreamingRequest) -> None:
        if request.peer == NO_ADDRESS:  # a Unix socket, which browsers cannot reach
            return
        for authority in request.header_values("host"):
            self._check(authority)
        if request.base_url is not None:  # the address that the client used, as told by a proxy
            self._check(origin_of(request.base_url).partition("://")[2])

    def _check(self, authority: str) -> None:
        if not self._is_own(authority):
            raise Forbidden(
                f"This service does not answer to the name {host_of(authority)}: web pages could"
                f" misuse it. Ask by address, or have the operator list the name in {self._option}."
            )

    def _find_out(self, authority: str) -> bool:
        host = host_of(authority)
        return not host or host in self._names or "*" in self._names or _is_address(host)


class SameOrigin:
    """Refuses changes that come from pages of another site, unless CORS allows that site."""

    def __init__(self, allowed_origins: Sequence[str], public_url: str | None) -> None:
        self._allowed = frozenset(origin.lower() for origin in allowed_origins)
        self._own = origin_of(public_url) if public_url else None

    def __call__(self, request: StreamingRequest) -> None:
        if request.method not in SAFE and self._is_foreign(request):
            raise Forbidden(
                "Web pages of another site may not change anything here; the operator can allow"
                " them in cors.allowed_origins."
            )

    def _is_foreign(self, request: StreamingRequest) -> bool:
        # Pages cannot set these headers, and clients other than browsers do not send them.
        site, origins = request.header("sec-fetch-site"), request.header_values("origin")
        if site in ("same-origin", "none"):
            return False
        if not origins:
            return site is not None
        return not all(self._is_known(origin.lower(), request) for origin in origins)

    def _is_known(self, origin: str, request: StreamingRequest) -> bool:
        if "*" in self._allowed or origin in self._allowed:
            return True
        return origin in (self._own, origin_of(request.url_base()))


def host_of(authority: str) -> str:
    """Return the host of `host:port` in lower case, without brackets or a trailing dot."""
    if authority.startswith("["):
        return authority[1:].partition("]")[0].lower()
    return authority.partition(":")[0].lower().removesuffix(".")


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def origin_of(url: str) -> str:
    scheme, separator, rest = url.lower().partition("://")
    return scheme + separator + rest.partition("/")[0]
