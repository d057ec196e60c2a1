"""The one way in which this service asks other servers for what a URL names.

Every URL is judged, its host looked up here, every address judged, and the connection made to the
very address that was judged; so it is again for each redirect.
"""

import base64
import re
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Container, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
from OpenSSL import SSL
from OpenSSL.crypto import Error as CryptoError
from service_identity import VerificationError
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as Overdue
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint, wrapClientTLS
from twisted.internet.error import ConnectError, ConnectingCancelledError
from twisted.internet.interfaces import (
    IOpenSSLClientConnectionCreator,
    IResolutionReceiver,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Protocol
from twisted.internet.ssl import (
    Certificate,
    CertificateOptions,
    platformTrust,
    trustRootFromCertificates,
)
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.web.client import Agent, BrowserLikePolicyForHTTPS, ResponseDone, ResponseFailed
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgentEndpointFactory, IPolicyForHTTPS
from zope.interface import implementer

from imgservice import USER_AGENT
from imgservice.domain.errors import TooLarge, Unavailable
from imgservice.domain.url_filter import Address, Refused, Target, TargetRules, read_target
from imgservice.net.interfaces import own_addresses

MOST_REDIRECTS = 5
MOST_WAITING = 256 << 10
"""Bytes of one answer that may wait in memory for their reader, but for one piece more."""
_REDIRECTS = (301, 302, 303, 307, 308)
_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----[^-]++-----END CERTIFICATE-----")

Resolver = Callable[[str], Awaitable[Sequence[str]]]
"""Returns the addresses of a host, none when it has none."""


class FetchFailed(Unavailable):
    """The other server cannot be reached, or its answer cannot be used. Names no URL."""


@attrs.frozen(kw_only=True)
class FetchLimits:
    """How long we wait, in seconds, and how much we read before the data begins."""

    connect: float = 30.0
    idle: float = 60.0
    """For the head of an answer, and from then on between any two pieces of its data."""
    head: int = 32 << 10
    """Bytes of an answer's head."""
    min_rate: float = 100.0
    """Bytes a second that must come, on the average of `min_rate_time` in which we wait; 0: any."""
    min_rate_time: float = 120.0


class Fetcher:
    """Asks other servers, within the rules."""

    def __init__(
        self,
        reactor: Any,
        rules: TargetRules,
        limits: FetchLimits | None = None,
        resolve: Resolver | None = None,
        tls: Any = None,
        own: Callable[[], Container[Address]] = own_addresses,
    ) -> None:
        """`tls` is an `IPolicyForHTTPS`; by default certificates must be ones that the system
        trusts. `own` tells the addresses of this host: they may change at any time."""
        self._own = own
        self._reactor = reactor
        self._rules = rules
        self._limits = limits or FetchLimits()
        self._resolve = resolve or SystemResolver(reactor)
        self._tls = tls or BrowserLikePolicyForHTTPS()

    def trusting(self, ca_file: str | None, verify: bool = True) -> "Fetcher":
        """Return one that trusts the authorities in the file, or whoever answers.

        `ValueError` when the file holds no certificate.
        """
        tls = BrowserLikePolicyForHTTPS(authorities(ca_file)) if verify else UnverifiedTls()
        return Fetcher(self._reactor, self._rules, self._limits, self._resolve, tls, self._own)

    async def check(self, url: str) -> None:
        """Raise `Refused` when the URL must not be fetched; connects to nothing."""
        await self._addresses(self._allowed(read_target(url)))

    async def open(
        self, method: str, url: str, headers: Mapping[str, str] | None = None
    ) -> "Fetched":
        """Send a GET or HEAD and return the answer, whatever its status, after all redirects.

        The caller reads its data or calls `abort`. `Refused` when the URL, or one that it leads
        to, is not allowed; `FetchFailed` when there is no usable answer.
        """
        target = read_target(url)
        for _ in range(MOST_REDIRECTS + 1):
            fetched = await self._ask(method, target, headers or {})
            onward = fetched.headers.get("location")
            if fetched.status not in _REDIRECTS or onward is None:
                return fetched
            fetched.abort()
            target = target.redirected(onward)
        raise FetchFailed("The server of the URL redirects too often.")

    async def send(self, method: str, url: str, headers: Mapping[str, str]) -> "Fetched":
        """Send a request without a body, and return the answer, as `open` does.

        A redirect is an answer like any other: what the headers hold goes to nobody else.
        """
        return await self._ask(method, read_target(url), headers)

    def _allowed(self, target: Target) -> Target:
        self._rules.check(target)
        return target

    async def _ask(self, method: str, target: Target, headers: Mapping[str, str]) -> "Fetched":
        addresses = await self._addresses(self._allowed(target))
        endpoint = _Pinned(self._reactor, self._endpoints(target, addresses), self._limits.head)
        agent = Agent.usingEndpointFactory(self._reactor, endpoint)
        waiting: Deferred[Any] = agent.request(
            method.encode(), target.url.encode(), _request_headers(target, headers)
        )
        timeout = self._limits.connect * len(addresses) + self._limits.idle
        try:
            response = await waiting.addTimeout(timeout, self._reactor, _overdue)
        except (ConnectError, ConnectingCancelledError, ResponseFailed, Overdue) as error:
            raise _failed(error) from error
        guard = endpoint.connected
        guard.head_is_over()
        return Fetched(response, guard.abort, self._reactor, self._limits)

    async def _addresses(self, target: Target) -> Sequence[str]:
        """Return the addresses of the host; one that may not be reached is reason enough."""
        addresses = [target.host]
        if not _is_address(target.host):
            addresses = list(await self._resolve(target.host))
        if not addresses:
            raise Refused("its host is not known")
        own = self._own()
        for address in addresses:
            self._rules.check_address(address, own)
        return addresses

    def _endpoints(self, target: Target, addresses: Sequence[str]) -> list[Any]:
        endpoints: list[Any] = [
            (TCP6ClientEndpoint if ":" in address else TCP4ClientEndpoint)(
                self._reactor, address, target.port, self._limits.connect
            )
            for address in addresses
        ]
        if target.scheme == "http":
            return endpoints
        creator = self._tls.creatorForNetloc(target.host.encode("ascii"), target.port)
        return [wrapClientTLS(creator, endpoint) for endpoint in endpoints]


def _is_address(host: str) -> bool:
    return ":" in host or host.rpartition(".")[2].isdigit()


def _request_headers(target: Target, more: Mapping[str, str]) -> Headers:
    headers = Headers(
        {"user-agent": [USER_AGENT], "accept": ["*/*"], "accept-encoding": ["identity"]}
    )
    for name, value in more.items():
        headers.setRawHeaders(name, [value])
    if target.credentials is not None:
        secret = base64.b64encode(target.credentials.encode()).decode()
        headers.setRawHeaders("authorization", [f"Basic {secret}"])
    return headers


def _overdue(result: Any, seconds: float) -> None:
    raise Overdue


def _failed(error: Exception) -> Exception:
    reasons = error.reasons if isinstance(error, ResponseFailed) else ()
    cancelled = any(reason.check(CancelledError) for reason in reasons)
    if cancelled or isinstance(error, ConnectingCancelledError):
        return CancelledError()
    if any(reason.check(SSL.Error, VerificationError) for reason in reasons):
        return FetchFailed("No TLS connection that can be trusted to the server of the URL.")
    if isinstance(error, Overdue):
        return FetchFailed("The server of the URL takes too long.")
    if isinstance(error, ConnectError):
        return FetchFailed("The server of the URL cannot be reached.")
    return FetchFailed("The server of the URL gives no usable answer.")


# -- answers --------------------------------------------------------------------------------------


class Fetched:
    """The answer of another server."""

    def __init__(
        self, response: Any, abort: Callable[[], None], reactor: Any, limits: FetchLimits
    ) -> None:
        self.status: int = response.code
        self.headers: Mapping[str, str] = {
            name.decode("latin-1").lower(): values[0].decode("latin-1")
            for name, values in response.headers.getAllRawHeaders()
        }
        """The first of each name, in lower case."""
        self.length = _length(response)
        """How many bytes of data the server announces, None when it does not."""
        self.abort = abort
        """Closes the connection; harmless when that is done already."""
        self._reactor = reactor
        self._body = _Body(reactor, limits)
        response.deliverBody(self._body)

    async def blocks(self, limit: int | None = None) -> AsyncGenerator[bytes, None]:
        """Yield the data; no more of it is taken from the network than is read.

        `TooLarge` as soon as there are more than `limit` bytes; `FetchFailed` when the data breaks
        off. The connection is closed at the end, also when the reader goes away before.
        """
        total = 0
        try:
            while block := await self._body.read():
                total += len(block)
                if limit is not None and total > limit:
                    raise TooLarge(f"The data is longer than {limit} bytes.")
                yield block
        finally:
            # May run in any thread, when the garbage collector finds a forgotten generator.
            self._reactor.callFromThread(self.abort)


def _length(response: Any) -> int | None:
    if response.request.method != b"HEAD":
        return response.length if isinstance(response.length, int) else None
    found = response.headers.getRawHeaders(b"content-length", [b""])
    return int(found[0]) if re.fullmatch(rb"[0-9]{1,19}", found[0]) else None


class _Body(Protocol):
    """The data of an answer, between the network and its reader."""

    def __init__(self, reactor: Any, limits: FetchLimits) -> None:
        self._reactor = reactor
        self._limits = limits
        self._waited = 0.0
        self._came = 0
        self._pieces: deque[bytes] = deque()
        self._waiting = 0
        self._paused = False
        self._ended = False
        self._error: FetchFailed | None = None
        self._reader: Deferred[None] | None = None

    async def read(self) -> bytes:
        """Return the next piece, empty at the end."""
        if not self._pieces and not self._ended:
            self._resume()
            await self._wait()
        if not self._pieces:
            if self._error is not None:
                raise self._error
            return b""
        piece = self._pieces.popleft()
        self._waiting -= len(piece)
        if self._waiting <= MOST_WAITING // 2:
            self._resume()
        return piece

    async def _wait(self) -> None:
        self._reader = Deferred()
        begin = self._reactor.seconds()
        try:
            await self._reader.addTimeout(self._limits.idle, self._reactor)
        except Overdue as error:
            raise FetchFailed("The server of the URL sends no more data.") from error
        self._waited += self._reactor.seconds() - begin
        if self._waited >= self._limits.min_rate_time:
            self._check_rate()

    def _check_rate(self) -> None:
        """Give up on a server that keeps us waiting; time in which nobody reads does not count."""
        if self._came < self._limits.min_rate * self._waited:
            raise FetchFailed("The server of the URL sends its data too slowly.")
        self._waited, self._came = 0.0, 0

    def _resume(self) -> None:
        if self._paused and not self._ended:
            self._paused = False
            self.transport.resumeProducing()  # type: ignore[union-attr]

    def dataReceived(self, data: bytes) -> None:
        self._pieces.append(data)
        self._waiting += len(data)
        self._came += len(data)
        if self._waiting >= MOST_WAITING and not self._paused:
            self._paused = True
            self.transport.pauseProducing()  # type: ignore[union-attr]
        self._wake()

    def connectionLost(self, reason: Any = None) -> None:
        self._ended = True
        if not reason.check(ResponseDone, PotentialDataLoss):
            self._error = FetchFailed("The data from the server of the URL breaks off.")
        self._wake()

    def _wake(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None and not reader.called:
            reader.callback(None)


# -- connections ----------------------------------------------------------------------------------


@implementer(IAgentEndpointFactory, IStreamClientEndpoint)
class _Pinned:
    """Connects to the first of the addresses that answers, and to nothing else."""

    def __init__(self, reactor: Any, endpoints: Sequence[Any], head: int) -> None:
        self._endpoints = endpoints
        self._head = head
        self.connected: _Guard

    def endpointForURI(self, uri: Any) -> "_Pinned":
        return self

    def connect(self, factory: Any) -> Deferred[Any]:
        return Deferred.fromCoroutine(self._connect(factory))

    async def _connect(self, factory: Any) -> Any:
        guarded = _GuardFactory(factory, self._head)
        *others, last = self._endpoints
        for endpoint in others:
            try:
                return self._opened(await endpoint.connect(guarded))
            except ConnectError:
                continue
        return self._opened(await last.connect(guarded))

    def _opened(self, guard: "_Guard") -> Any:
        self.connected = guard
        return guard.wrappedProtocol


class _Guard(ProtocolWrapper):
    """Cuts a connection whose answer begins with more than a head may have."""

    def __init__(self, factory: "_GuardFactory", wrapped: Any) -> None:
        super().__init__(factory, wrapped)
        self._left: int | None = factory.head

    def head_is_over(self) -> None:
        self._left = None

    def dataReceived(self, data: bytes) -> None:
        super().dataReceived(data)
        if self._left is not None:
            self._left -= len(data)
            if self._left < 0:
                self.abort()

    def abort(self) -> None:
        if self.transport is not None:
            self.transport.abortConnection()


class _GuardFactory(WrappingFactory[_Guard]):
    protocol = _Guard
    noisy = False  # its line in the log would have the URL's host

    def __init__(self, wrapped: Any, head: int) -> None:
        super().__init__(wrapped)
        self.head = head


def authorities(ca_file: str | None) -> Any:
    """Return whom to trust: those in the file, or whom the system trusts; `ValueError`."""
    if ca_file is None:
        return platformTrust()
    try:
        text = Path(ca_file).read_bytes()
    except OSError as error:
        raise ValueError(f"{ca_file}: cannot be read: {error.strerror}") from None
    blocks = _CERTIFICATE.findall(text)
    try:
        return trustRootFromCertificates([Certificate.loadPEM(block) for block in blocks or [b""]])
    except (CryptoError, ValueError):
        raise ValueError(f"{ca_file}: holds no certificates in PEM format") from None


@implementer(IPolicyForHTTPS)
class UnverifiedTls:
    """TLS without any knowledge of who is at the other end."""

    def creatorForNetloc(self, hostname: bytes, port: int) -> "_Unverified":
        return _Unverified(hostname)


@implementer(IOpenSSLClientConnectionCreator)
class _Unverified:
    def __init__(self, hostname: bytes) -> None:
        self._hostname = hostname
        self._context = CertificateOptions(verify=False).getContext()

    def clientConnectionForTLS(self, protocol: Any) -> Any:
        connection = SSL.Connection(self._context, None)
        if not _is_address(self._hostname.decode("ascii")):
            connection.set_tlsext_host_name(self._hostname)
        return connection


# -- names ----------------------------------------------------------------------------------------


class SystemResolver:
    """Asks the system, as every other program on the host does."""

    def __init__(self, reactor: Any, timeout: float = 30.0) -> None:
        self._reactor = reactor
        self._timeout = timeout

    async def __call__(self, host: str) -> Sequence[str]:
        answers = _Answers()
        self._reactor.nameResolver.resolveHostName(
            answers, host, 0, [IPv4Address, IPv6Address], "TCP"
        )
        try:
            await answers.complete.addTimeout(self._timeout, self._reactor)
        except Overdue as error:
            raise FetchFailed("The host of the URL cannot be looked up.") from error
        return answers.found


@implementer(IResolutionReceiver)
class _Answers:
    def __init__(self) -> None:
        self.found: list[str] = []
        self.complete: Deferred[None] = Deferred()

    def resolutionBegan(self, resolution: Any) -> None:
        pass

    def addressResolved(self, address: Any) -> None:
        self.found.append(address.host)

    def resolutionComplete(self) -> None:
        if not self.complete.called:
            self.complete.callback(None)
