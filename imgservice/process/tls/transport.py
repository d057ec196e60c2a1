"""TLS that encrypts in larger pieces than Twisted does.

Twisted passes each record of 16 KiB separately through OpenSSL and to the socket, which makes
downloads a quarter more expensive.
`tests/process/test_tls_transport.py` pins the private names of Twisted that are used.
"""

from traceback import clear_frames
from typing import Any, Protocol, cast

from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IOpenSSLServerConnectionCreator,
    IProtocolFactory,
    IStreamServerEndpoint,
)
from twisted.protocols.tls import BufferingTLSTransport, TLSMemoryBIOFactory
from twisted.python.failure import Failure
from zope.interface import implementer

from imgservice.concurrency.reactor import Clock, ConnectionFactory, twisted_clock
from imgservice.process.acceptor import Acceptor
from imgservice.process.tls.contexts import ServerContexts

RECORD = 16 << 10
PIECE = 4 * RECORD
"""Encrypted at a time; larger buffers would be allocated anew each time, which costs more."""
OVERHEAD = 256
"""More bytes than encryption adds to a record."""


class TlsTransport(BufferingTLSTransport):
    _lostTLSConnection: bool
    _tlsConnection: SSL.Connection

    def _write(self, data: bytes) -> None:
        """Encrypt and send; before the handshake is complete, data waits for it."""
        if self._lostTLSConnection:
            return
        view, sent = memoryview(data), 0
        while sent < len(view):
            try:
                sent += self._tlsConnection.send(view[sent : sent + PIECE])
            except SSL.WantReadError:
                self._bufferedWrite(bytes(view[sent:]))
                return
            except SSL.Error:
                self._tlsShutdownFinished(Failure())
                return
            self._flushSendBIO()

    def _flushSendBIO(self) -> None:
        try:
            encrypted = self._tlsConnection.bio_read(PIECE + 4 * OVERHEAD)
        except SSL.WantReadError:
            return
        cast(Any, self.transport).write(encrypted)

    def _tlsShutdownFinished(self, reason: Failure | None) -> None:
        """Clear the frames of OpenSSL's error.

        Among them is the one that has the error, so that the buffers of the connection would stay
        until the next full garbage collection.
        """
        if reason is not None:
            clear_frames(reason.tb)
        super()._tlsShutdownFinished(reason)


class _TlsFactory(TLSMemoryBIOFactory):
    protocol = TlsTransport


class ListeningEndpoint(Protocol):
    """Where a site listens; like Twisted's, but it listens at once."""

    def listen(self, factory: ConnectionFactory, /) -> Deferred[Acceptor]: ...


@implementer(IStreamServerEndpoint)
class TlsEndpoint:
    """Speaks TLS on the connections of another endpoint."""

    def __init__(self, clock: Clock, endpoint: ListeningEndpoint, contexts: ServerContexts) -> None:
        self._clock = clock
        self._endpoint = endpoint
        self._contexts = cast(IOpenSSLServerConnectionCreator, contexts)

    def listen(self, factory: ConnectionFactory) -> Deferred[Acceptor]:
        secured = _TlsFactory(
            self._contexts, False, cast(IProtocolFactory, factory), clock=twisted_clock(self._clock)
        )
        return self._endpoint.listen(secured)
