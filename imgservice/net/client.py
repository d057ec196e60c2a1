"""The HTTP clients of this service: a `Fetcher` for URLs that users name, and a
`ConfiguredClient` for servers that the configuration names.

Both bound the time and the size of every answer, and read it no faster than it is used.
"""

import base64
from collections.abc import Callable, Container, Mapping, Sequence
from typing import cast

from OpenSSL import SSL
from service_identity import VerificationError
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as Overdue
from twisted.internet.error import ConnectError, ConnectingCancelledError, DNSLookupError
from twisted.web.client import (
    Agent,
    HTTPConnectionPool,
    RequestGenerationFailed,
    RequestTransmissionFailed,
    Response,
    ResponseFailed,
)
from twisted.web.http_headers import Headers

from imgservice import USER_AGENT
from imgservice.concurrency.reactor import Reactor
from imgservice.domain.url_filter import Address, HttpUrl, Refused, UrlFilter, read_url
from imgservice.net.answers import Fetched
from imgservice.net.bodies import Body, Deadline, body_of, producer
from imgservice.net.connections import ConfiguredHosts, EndpointFactory, pinned_endpoint
from imgservice.net.errors import FetchFailed
from imgservice.net.interfaces import own_addresses
from imgservice.net.limits import FetchLimits
from imgservice.net.names import Resolver, SystemResolver, is_address
from imgservice.net.tls import TlsPolicy, tls_policy

MOST_REDIRECTS = 5
_REDIRECTS = (301, 302, 303, 307, 308)
_BROKEN = (ResponseFailed, RequestTransmissionFailed, RequestGenerationFailed)
_FAILURES = (
    ConnectError,
    ConnectingCancelledError,
    DNSLookupError,
    Overdue,
    CancelledError,
    *_BROKEN,
)


class ConfiguredClient:
    """Sends requests to servers that the operator has chosen: no filter applies to them.

    Connections are kept for later requests. Redirects are answers like any other.
    """

    def __init__(
        self,
        reactor: Reactor,
        tls: TlsPolicy,
        limits: FetchLimits,
        connections: int,
        reused_for: float | None = None,
    ) -> None:
        """Keep up to so many idle connections to each server.

        A connection that was kept may just be closing. A request without a body is then repeated
        here. One with a body is not, so it gets a connection of its own; unless the caller can
        repeat it, and says for how many seconds connections are kept.
        """
        self._reactor = reactor
        self._limits = limits
        self._pool = HTTPConnectionPool(reactor, persistent=True)
        self._pool.maxPersistentPerHost = connections
        endpoints = ConfiguredHosts(reactor, tls, limits)
        self._keeping = _agent(reactor, endpoints, self._pool)
        self._sending = _agent(reactor, endpoints)
        if reused_for is not None:
            self._pool.cachedConnectionTimeout = cast(int, reused_for)  # any number does
            self._sending = self._keeping

    async def send(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | Body | None = None
    ) -> Fetched:
        """Return the answer, whatever its status; `FetchFailed` when there is no usable one.

        What the blocks of the body raise is raised here.
        """
        agent = self._keeping if body is None else self._sending
        seconds = self._limits.connect + self._limits.idle
        return await _exchange(
            self._reactor, agent, self._limits, seconds, method, url, _headers(headers), body
        )

    def close(self) -> Deferred[None]:
        """Close the connections that are kept."""
        closing: Deferred[None] = self._pool.closeCachedConnections()
        return closing


class Fetcher:
    """Sends requests to servers that users name, within the rules.

    Every URL is judged, its host looked up here, every address judged, and the connection made to
    the very address that was judged; so it is again for each redirect.
    """

    def __init__(
        self,
        reactor: Reactor,
        rules: UrlFilter,
        limits: FetchLimits | None = None,
        resolve: Resolver | None = None,
        tls: TlsPolicy | None = None,
        own: Callable[[], Container[Address]] = own_addresses,
    ) -> None:
        """By default certificates must be ones that the system trusts.

        `own` tells the addresses of this host: they may change at any time.
        """
        self._own = own
        self._reactor = reactor
        self._rules = rules
        self._limits = limits or FetchLimits()
        self._resolve = resolve or SystemResolver(reactor)
        self._tls = tls or tls_policy()

    def trusting(self, ca_file: str | None, verify: bool = True) -> "Fetcher":
        """Return one that trusts the authorities in the file, or any certificate.

        `ValueError` when the file holds no certificate.
        """
        tls = tls_policy(ca_file, verify)
        return Fetcher(self._reactor, self._rules, self._limits, self._resolve, tls, self._own)

    async def check(self, url: str) -> None:
        """Raise `Refused` when the URL must not be fetched; connects to nothing."""
        await self._addresses(read_url(url))

    async def open(
        self, method: str, url: str, headers: Mapping[str, str] | None = None
    ) -> Fetched:
        """Send a GET or HEAD and return the answer, whatever its status, after all redirects.

        The caller reads its data or calls `abort`. `Refused` when the URL, or one that it leads
        to, is not allowed; `FetchFailed` when there is no usable answer.
        """
        target = read_url(url)
        for _ in range(MOST_REDIRECTS + 1):
            fetched = await self._fetch(method, target, headers or {})
            onward = fetched.headers.get("location")
            if fetched.status not in _REDIRECTS or onward is None:
                return fetched
            fetched.abort()
            target = target.redirected(onward)
        raise FetchFailed("redirects too often")

    async def send(self, method: str, url: str, headers: Mapping[str, str]) -> Fetched:
        """Send a request without a body, and return the answer, as `open` does.

        A redirect is an answer like any other: what the headers hold goes to nobody else.
        """
        return await self._fetch(method, read_url(url), headers)

    async def _fetch(self, method: str, target: HttpUrl, headers: Mapping[str, str]) -> Fetched:
        addresses = await self._addresses(target)
        endpoint = pinned_endpoint(self._reactor, target, addresses, self._tls, self._limits)
        return await _exchange(
            self._reactor,
            _agent(self._reactor, endpoint),
            self._limits,
            self._limits.connect * len(addresses) + self._limits.idle,
            method,
            target.text,
            _headers(headers, target.credentials),
        )

    async def _addresses(self, target: HttpUrl) -> Sequence[str]:
        """Return the addresses of the host; `Refused` if it or one of them may not be reached."""
        self._rules.check(target)
        addresses: Sequence[str] = [target.host]
        if not is_address(target.host):
            addresses = await self._resolve(target.host)
        if not addresses:
            raise Refused("its host is not known")
        own = self._own()
        for address in addresses:
            self._rules.check_address(address, own)
        return addresses


def _agent(
    reactor: Reactor, endpoints: EndpointFactory, pool: HTTPConnectionPool | None = None
) -> Agent:
    # Not treq: it spells URLs anew, unpacks gzip, keeps cookies and follows redirects.
    agent: Agent = Agent.usingEndpointFactory(reactor, endpoints, pool)
    return agent


def _headers(more: Mapping[str, str], credentials: str | None = None) -> Headers:
    headers = Headers(
        {"user-agent": [USER_AGENT], "accept": ["*/*"], "accept-encoding": ["identity"]}
    )
    for name, value in more.items():
        headers.setRawHeaders(name, [value])
    if credentials is not None:
        secret = base64.b64encode(credentials.encode()).decode()
        headers.setRawHeaders("authorization", [f"Basic {secret}"])
    return headers


async def _exchange(
    reactor: Reactor,
    agent: Agent,
    limits: FetchLimits,
    seconds: float,
    method: str,
    url: str,
    headers: Headers,
    body: bytes | Body | None = None,
) -> Fetched:
    """Send a request; return its answer as soon as the head is there."""
    deadline = Deadline(reactor)
    deadline.start(seconds)
    sent = body_of(body) if isinstance(body, bytes) else body
    if sent is not None and sent.is_asked_for:
        headers.setRawHeaders("expect", ["100-continue"])
    sender = None if sent is None else producer(reactor, sent, deadline, limits)
    waiting = agent.request(method.encode(), url.encode(), headers, sender)
    deadline.watch(waiting)
    try:
        response = await waiting
    except _FAILURES as error:
        raise _failed(Overdue() if deadline.is_over else error) from error
    finally:
        deadline.stop()
    return Fetched(cast(Response, response), method, reactor, limits)


def _failed(error: Exception) -> Exception:
    reasons = error.reasons if isinstance(error, _BROKEN) else ()
    causes = [reason.value for reason in reasons] or [error]
    if isinstance(error, RequestGenerationFailed) and isinstance(causes[0], Exception):
        return causes[0]  # of the body
    if any(isinstance(cause, CancelledError | ConnectingCancelledError) for cause in causes):
        return CancelledError()
    if any(isinstance(cause, SSL.Error | VerificationError) for cause in causes):
        return FetchFailed("offers no TLS connection that can be trusted")
    if isinstance(error, Overdue):
        return FetchFailed("takes too long")
    if isinstance(error, DNSLookupError):
        return FetchFailed("cannot be found: its host name is unknown")
    if isinstance(error, ConnectError):
        return FetchFailed("cannot be reached", type(error).__name__)
    names = sorted({type(cause).__name__ for cause in causes})
    return FetchFailed("gives no usable answer", ", ".join(names))
