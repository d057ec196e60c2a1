"""Connections to other servers, which are cut when an answer exceeds its limits."""

from collections.abc import Iterable, Sequence
from typing import Protocol, cast

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import (
    HostnameEndpoint,
    TCP4ClientEndpoint,
    TCP6ClientEndpoint,
    wrapClientTLS,
)
from twisted.internet.error import ConnectError
from twisted.internet.interfaces import (
    IProtocol,
    IProtocolFactory,
    IStreamClientEndpoint,
    ITransport,
)
from twisted.internet.tcp import Connection
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.python.failure import Failure
from twisted.web.client import URI
from twisted.web.iweb import IAgentEndpointFactory
from zope.interface import implementer

from imgservice.concurrency.reactor import Reactor
from imgservice.domain.url_filter import HttpUrl
from imgservice.net.bodies import BodyProducer
from imgservice.net.limits import FetchLimits
from imgservice.net.tls import TlsPolicy

SMALL_READ, LARGE_READ = 64 << 10, 256 << 10
"""Bytes that are read from a connection at a time: few of what is limited, and many with less work
of what is not."""
_INTERIM = b"HTTP/1.1 1"
_HEAD_END = b"\r\n\r\n"


class ClientEndpoint(Protocol):
    """Twisted's `IStreamClientEndpoint`, for type checkers."""

    def connect(self, factory: IProtocolFactory, /) -> Deferred[IProtocol]: ...


class EndpointFactory(Protocol):
    """Twisted's `IAgentEndpointFactory`, for type checkers."""

    def endpointForURI(self, uri: URI, /) -> ClientEndpoint: ...


@implementer(IAgentEndpointFactory)
class ConfiguredHosts:
    """Makes endpoints for hosts that the configuration names."""

    def __init__(self, reactor: Reactor, tls: TlsPolicy, limits: FetchLimits) -> None:
        self._reactor = reactor
        self._tls = tls
        self._limits = limits

    def endpointForURI(self, uri: URI) -> "GuardedEndpoint":
        plain = HostnameEndpoint(self._reactor, uri.host, uri.port, self._limits.connect)
        is_tls = uri.scheme == b"https"
        endpoint = _over_tls(plain, self._tls, uri.host, uri.port) if is_tls else plain
        return GuardedEndpoint([endpoint], self._limits)


def pinned_endpoint(
    reactor: Reactor,
    target: HttpUrl,
    addresses: Sequence[str],
    tls: TlsPolicy,
    limits: FetchLimits,
) -> "GuardedEndpoint":
    """Return an endpoint that connects to one of these addresses, whatever the target's host is."""
    plain = [
        (TCP6ClientEndpoint if ":" in address else TCP4ClientEndpoint)(
            reactor, address, target.port, limits.connect
        )
        for address in addresses
    ]
    if target.scheme == "http":
        return GuardedEndpoint(plain, limits)
    host = target.host.encode("ascii")
    return GuardedEndpoint([_over_tls(one, tls, host, target.port) for one in plain], limits)


def _over_tls(endpoint: ClientEndpoint, tls: TlsPolicy, host: bytes, port: int) -> ClientEndpoint:
    creator = tls.creatorForNetloc(host, port)
    return cast(ClientEndpoint, wrapClientTLS(creator, cast(IStreamClientEndpoint, endpoint)))


@implementer(IAgentEndpointFactory, IStreamClientEndpoint)
class GuardedEndpoint:
    """Connects to the first of several endpoints that answers."""

    def __init__(self, endpoints: Sequence[ClientEndpoint], limits: FetchLimits) -> None:
        self._endpoints = endpoints
        self._limits = limits

    def endpointForURI(self, uri: URI) -> "GuardedEndpoint":
        """Return itself: the agent of a single request has no other endpoint."""
        return self

    def connect(self, factory: IProtocolFactory) -> Deferred[IProtocol]:
        connecting = Deferred.fromCoroutine(self._connect(factory))

        def cancel(result: Deferred[IProtocol]) -> None:
            # What comes of it does not matter: when it is cancelled early, Twisted's endpoint of a
            # host says that the name is unknown.
            result.errback(Failure(CancelledError()))
            connecting.cancel()

        result: Deferred[IProtocol] = Deferred(cancel)
        connecting.addBoth(lambda outcome: None if result.called else result.callback(outcome))
        return result

    async def _connect(self, factory: IProtocolFactory) -> IProtocol:
        guarded = cast(IProtocolFactory, _GuardFactory(factory, self._limits))
        *others, last = self._endpoints
        for endpoint in others:
            try:
                return _unwrapped(await endpoint.connect(guarded))
            except ConnectError:
                continue
        return _unwrapped(await last.connect(guarded))


def _unwrapped(guard: "_Guard") -> IProtocol:
    return guard.wrappedProtocol


class _Guard(ProtocolWrapper):
    """Counts the bytes of each answer: it begins when something was sent.

    Tells what sends a body of what the server says before it has all of that: Twisted's parser
    would keep it to itself.
    """

    def __init__(self, factory: "_GuardFactory", wrapped: IProtocol) -> None:
        super().__init__(factory, wrapped)
        self._limits = factory.limits
        self._sender: BodyProducer | None = None
        self._early = b""
        self._socket: Connection | None = None
        self._begin()

    def makeConnection(self, transport: ITransport) -> None:
        if isinstance(transport, Connection):
            self._socket = transport
        super().makeConnection(transport)

    def registerProducer(self, producer: object, streaming: bool) -> None:
        self._sender = producer if isinstance(producer, BodyProducer) else None
        super().registerProducer(producer, streaming)

    def unregisterProducer(self) -> None:
        self._sender = None
        super().unregisterProducer()

    def _begin(self) -> None:
        self._is_in_head = True
        self._left: int | None = self._limits.head
        self._read_at_a_time(SMALL_READ)

    def _read_at_a_time(self, size: int) -> None:
        if self._socket is not None:
            self._socket.bufferSize = size

    def write(self, data: bytes) -> None:
        self._begin()
        super().write(data)

    def writeSequence(self, data: Iterable[bytes]) -> None:
        self._begin()
        super().writeSequence(data)

    def pauseProducing(self) -> None:
        """Note that the head is over: Twisted's parser pauses the connection then, not before."""
        if self._is_in_head:
            self._is_in_head, self._left = False, self._limits.answer
            self._read_at_a_time(LARGE_READ if self._left is None else SMALL_READ)
        if self.transport is not None:
            self.transport.pauseProducing()

    def dataReceived(self, data: bytes) -> None:
        if self._sender is not None:
            data = self._answer_behind(self._sender, data)
            if not data:
                return
        super().dataReceived(data)
        if self._left is not None:
            self._left -= len(data)
            if self._left < 0:
                self.loseConnection()

    def _answer_behind(self, sender: BodyProducer, data: bytes) -> bytes:
        """Return what there is of the answer, without any interim ones, such as 100 Continue."""
        data, self._early = self._early + data, b""
        while data and _INTERIM.startswith(data[: len(_INTERIM)]):
            _, separator, behind = data.partition(_HEAD_END)
            if not separator and len(data) <= self._limits.head:
                self._early = data
                return b""
            sender.proceed()
            data = behind
        if data:
            sender.answered()
        return data

    def loseConnection(self) -> None:
        """Close at once: an orderly end would wait for a peer that goes on sending."""
        if self.transport is not None:
            self.transport.abortConnection()


class _GuardFactory(WrappingFactory[_Guard]):
    protocol = _Guard
    noisy = False  # its line in the log would have the URL's host

    def __init__(self, wrapped: IProtocolFactory, limits: FetchLimits) -> None:
        wrapped.noisy = False  # likewise
        super().__init__(wrapped)
        self.limits = limits
