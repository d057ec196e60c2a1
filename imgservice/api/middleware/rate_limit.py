"""Limits request rates: of addresses before authentication, of users and projects after it."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping

import attrs

from imgservice.domain.errors import NotAuthenticated, TooManyRequests
from imgservice.domain.rates import Buckets
from imgservice.http.networks import Networks, is_within, neighbourhood
from imgservice.http.request import NO_ADDRESS, StreamingRequest
from imgservice.http.response import Response
from imgservice.http.route import Cost, Route
from imgservice.http.routing import RouteMap

Clock = Callable[[], float]
CREDENTIALS = (b"authorization", b"x-auth-token", b"x-storage-token", b"x-service-token")
"""Headers in which an attacker can try guessed credentials."""


class AddressLimit:
    """Limits addresses.

    It comes before authentication, which is expensive and a target of guessing.
    """

    def __init__(
        self,
        requests: Buckets | None,
        failures: Buckets | None,
        exempt: Networks = (),
        seconds: Clock = time.monotonic,
    ) -> None:
        self._requests = requests
        self._failures = failures
        self._exempt = exempt
        self._seconds = seconds

    async def __call__(self, request: StreamingRequest) -> Response | None:
        key = self._key(request)
        if key is None:
            return None
        now = self._seconds()
        if self._failures is not None:
            wait = self._failures.wait(key, now)
            if wait > 0 and _has_credentials(request):
                raise TooManyRequests("Too many failed authentications from your address.", wait)
        if self._requests is not None:
            wait = self._requests.wait(key, now)
            if wait > 0:
                raise TooManyRequests("Too many requests from your address.", wait)
            self._requests.take(key, now)
        return None

    def refused(self, request: StreamingRequest, error: BaseException | None) -> None:
        """Count wrong credentials; several at the same time make a debt."""
        if self._failures is None or not isinstance(error, NotAuthenticated):
            return
        key = self._key(request)
        if key is not None and _has_credentials(request):
            self._failures.take(key, self._seconds())

    def forgive(self, request: StreamingRequest) -> None:
        """Take back that the request was counted: its caller turned out to be exempt."""
        key = self._key(request)
        if key is not None and self._requests is not None:
            self._requests.give_back(key, self._seconds())

    def _key(self, request: StreamingRequest) -> str | None:
        """Return what to count by; None for exempt addresses and Unix sockets."""
        address = request.source
        if address == NO_ADDRESS or (self._exempt and is_within(address, self._exempt)):
            return None
        return neighbourhood(address)


class RequestCosts:
    """Finds what requests cost: what their routes declare."""

    def __init__(self, versions: Mapping[str, Iterable[Route]]) -> None:
        """`versions` has the routes of each version of the API."""
        self._maps = {version: RouteMap(routes) for version, routes in versions.items()}

    def __call__(self, request: StreamingRequest) -> Cost:
        routes = self._maps.get(request.api_version)
        route = routes.find(request) if routes else None
        if route is not None:
            return route.cost
        # Without a route, only the method tells.
        return Cost.CREATE if request.method in (b"POST", b"PATCH") else Cost.REQUEST


@attrs.frozen
class CallerRates:
    """The buckets of users and projects."""

    by_user: Buckets | None = None
    by_project: Buckets | None = None
    creates: Buckets | None = None


class RateLimit:
    """Limits users and projects. A request that is refused for one reason counts for none."""

    def __init__(
        self,
        rates: CallerRates,
        exempt_roles: Iterable[str],
        addresses: AddressLimit,
        cost_of: Callable[[StreamingRequest], Cost],
        seconds: Clock = time.monotonic,
    ) -> None:
        self._rates = rates
        self._exempt_roles = frozenset(role.lower() for role in exempt_roles)
        self._addresses = addresses
        self._cost_of = cost_of
        self._seconds = seconds

    async def __call__(self, request: StreamingRequest) -> Response | None:
        if not self._exempt_roles.isdisjoint(request.context.roles):
            self._addresses.forgive(request)
            return None
        charges, now = list(self._charges(request)), self._seconds()
        for what, buckets, key in charges:
            wait = buckets.wait(key, now)
            if wait > 0:
                raise TooManyRequests(f"Too many {what}.", wait)
        for _, buckets, key in charges:
            buckets.take(key, now)
        return None

    def _charges(self, request: StreamingRequest) -> Iterator[tuple[str, Buckets, str]]:
        rates, context = self._rates, request.context
        if rates.by_user is not None and context.user is not None:
            yield "requests of your user", rates.by_user, context.user
        if rates.by_project is not None and context.project is not None:
            yield "requests of your project", rates.by_project, context.project
        if rates.creates is not None and self._cost_of(request) is Cost.CREATE:
            payer = context.project or f"user {context.user}"
            yield "changes by your project", rates.creates, payer


def _has_credentials(request: StreamingRequest) -> bool:
    return any(request.requestHeaders.hasHeader(name) for name in CREDENTIALS)
