"""Connections that are cut when more comes than an answer may have."""

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.web.iweb import IAgentEndpointFactory
from zope.interface import implementer


@implementer(IAgentEndpointFactory)
class GuardedEndpoints:
    """Makes the endpoints of an agent; `tls` is an `IPolicyForHTTPS`."""

    def __init__(self, reactor: Any, tls: Any, timeout: float, most: int) -> None:
        self._reactor = reactor
        self._tls = tls
        self._timeout = timeout
        self._most = most

    def endpointForURI(self, uri: Any) -> "_Guarded":
        endpoint: Any = HostnameEndpoint(self._reactor, uri.host, uri.port, self._timeout)
        if uri.scheme == b"https":
            endpoint = wrapClientTLS(self._tls.creatorForNetloc(uri.host, uri.port), endpoint)
        return _Guarded(endpoint, self._most)


@implementer(IStreamClientEndpoint)
class _Guarded:
    def __init__(self, endpoint: Any, most: int) -> None:
        self._endpoint = endpoint
        self._most = most

    def connect(self, factory: Any) -> Deferred[Any]:
        factory.noisy = False  # else every connection is two lines in the log
        connecting: Deferred[Any] = self._endpoint.connect(_GuardFactory(factory, self._most))
        return connecting.addCallback(lambda guard: guard.wrappedProtocol)


class _Guard(ProtocolWrapper):
    """Counts what comes since something was last sent, which is when the next answer begins."""

    def __init__(self, factory: "_GuardFactory", wrapped: Any) -> None:
        super().__init__(factory, wrapped)
        self._most = factory.most
        self._left = factory.most

    def write(self, data: bytes) -> None:
        self._left = self._most
        super().write(data)

    def writeSequence(self, data: Any) -> None:
        self._left = self._most
        super().writeSequence(data)

    def dataReceived(self, data: bytes) -> None:
        self._left -= len(data)
        if self._left < 0:
            self.loseConnection()
        else:
            super().dataReceived(data)

    def loseConnection(self) -> None:
        """Close at once: a peer that drips on would keep a connection that ends in order."""
        if self.transport is not None:
            self.transport.abortConnection()


class _GuardFactory(WrappingFactory[_Guard]):
    protocol = _Guard
    noisy = False

    def __init__(self, wrapped: Any, most: int) -> None:
        super().__init__(wrapped)
        self.most = most
