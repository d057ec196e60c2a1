"""Clients that send no more and still wait: a shutdown(2) of their side, after a whole request."""

import socket
from contextlib import suppress

from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import connectionDone
from zope.interface import implementer

from imgservice.http.timeouts import TimedChannel

PROBE = b"HTTP/1.1 100 Continue\r\n\r\n"
"""Every client of HTTP/1.1 skips it, however often it comes."""
KEEPIDLE = 5
"""Seconds after which the kernel begins to probe a client that must not get `PROBE`."""


@implementer(IHalfCloseableProtocol)
class HalfClosedChannel(TimedChannel):
    """A connection that outlives the last byte of its client for as long as that has an answer due.

    A client that shut its side down and one that left look the same, until we send something: the
    kernel of one that left refuses it. So a client that waits for its answer is sent a probe once,
    and one that refuses is cut at the next look. Over TLS, and behind the PROXY protocol, the end
    of what a client sends is still the end of the connection.
    """

    speaks_http_1_1 = True
    _buffer: bytes
    _dataBuffer: list[bytes]
    _read_ended = False
    _probed = False

    # -- IHalfCloseableProtocol -------------------------------------------------------------------

    def readConnectionLost(self) -> None:
        """There is no more to read; called again whenever somebody tries to."""
        last = self.requests[-1] if self.requests else None
        if last is not None and last.has_headers and last.body.complete and not self._leaving:
            self._expect_no_more()
        elif self.unsent_bytes() and (last is None or self._leaving):
            self.loseConnection()  # what it is still to be told goes out first
        else:
            self.socket_transport.connectionLost(connectionDone)

    def writeConnectionLost(self) -> None:
        """We have ended our side ourselves."""

    # -- the answer that is due -------------------------------------------------------------------

    @property
    def has_heard_all(self) -> bool:
        """Whether no further request will come."""
        return self._read_ended and not (self._buffer or any(self._dataBuffer))

    def _expect_no_more(self) -> None:
        if not self._read_ended and not self.speaks_http_1_1:
            self._let_kernel_probe(self.socket_transport.socket)
        self._read_ended = True

    def _let_kernel_probe(self, connection: socket.socket) -> None:
        with suppress(OSError):  # a Unix socket needs none: there writing tells
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPIDLE)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPIDLE)

    def check_deadlines(self, now: float) -> None:
        if self._read_ended and self.requests:
            self._look_for_client()
        super().check_deadlines(now)

    def _look_for_client(self) -> None:
        # Nobody waits for events of a socket from which nothing is read, and to which nothing is
        # written at the moment.
        if self.socket_transport.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self.abort()
        elif not self._probed and self.speaks_http_1_1 and not self.requests[0].startedWriting:
            self._probed = True
            self.transport.write(PROBE)
