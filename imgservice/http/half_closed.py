"""Half-closed connections: the client has shut down its side and waits for its answer."""

import socket
from contextlib import suppress

from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import connectionDone
from zope.interface import implementer

from imgservice.http.timeouts import TimedChannel

PROBE = b"HTTP/1.1 100 Continue\r\n\r\n"
"""Every client of HTTP/1.1 skips it, however often it comes."""
KEEPIDLE = 5
"""Seconds after which the kernel probes an HTTP/1.0 client, which does not know `PROBE`."""


@implementer(IHalfCloseableProtocol)
class HalfClosedChannel(TimedChannel):
    """A connection that stays open after the client's last byte while an answer is due.

    A client that shut down its side and one that is gone look the same until we send something,
    which the host of one that is gone refuses. So the client is sent a probe once, and when its
    host refuses that, the connection is aborted at the next check. Over TLS and behind the PROXY
    protocol the client's last byte still ends the connection.
    """

    speaks_http_1_1 = True
    _buffer: bytes
    _dataBuffer: list[bytes]
    _read_ended = False
    _probed = False

    # -- IHalfCloseableProtocol -------------------------------------------------------------------

    def readConnectionLost(self) -> None:
        """Called at the end of what the client sends, and again at each attempt to read."""
        last = self.requests[-1] if self.requests else None
        if last is not None and last.has_headers and last.body.complete and not self._leaving:
            self._expect_no_more()
        elif self.unsent_bytes() and (last is None or self._leaving):
            self.loseConnection()  # after what is still to be sent
        else:
            self.socket_transport.connectionLost(connectionDone)

    def writeConnectionLost(self) -> None:
        """Called after we have ended our side."""

    # -- the answer that is due -------------------------------------------------------------------

    @property
    def has_received_all(self) -> bool:
        """Whether no further request will come."""
        return self._read_ended and not (self._buffer or any(self._dataBuffer))

    def _expect_no_more(self) -> None:
        if not self._read_ended and not self.speaks_http_1_1:
            self._let_kernel_probe(self.socket_transport.socket)
        self._read_ended = True

    def _let_kernel_probe(self, connection: socket.socket) -> None:
        with suppress(OSError):  # a Unix socket needs none: writing to it fails at once
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPIDLE)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPIDLE)

    def check_timeouts(self, now: float) -> None:
        if self._read_ended and self.requests:
            self._probe_client()
        super().check_timeouts(now)

    def _probe_client(self) -> None:
        # The reactor watches no socket that is neither read nor written at the moment.
        if self.socket_transport.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self.abort()
        elif not self._probed and self.speaks_http_1_1 and not self.requests[0].startedWriting:
            self._probed = True
            self.transport.write(PROBE)
