"""HTTP/1.1 in which a request is handled at the end of its headers, not of its body.

Twisted renders a request once its whole body has arrived. Three small subclasses change that: the
channel starts the request as soon as the headers are complete, the request then carries a
`RequestBody` that reads from the socket on demand, and an answer may be finished before the body
is. `tests/http/test_streaming.py` pins every private name of Twisted that is used here.
"""

import re
import socket
from collections.abc import Sequence
from typing import Protocol

from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from twisted.web.http import _MalformedChunkedDataError

from imgservice.domain.errors import BodyTooSlow
from imgservice.http.answer_memory import LARGE
from imgservice.http.body import UNREAD_LIMIT, RequestBody
from imgservice.http.half_closed import HalfClosedChannel
from imgservice.http.request import RequestSite, StreamingRequest
from imgservice.http.response import error_object, reason
from imgservice.http.timeouts import TimedSite

READ_SIZE = 256 << 10
DRAIN_LIMIT = 256 << 10
"""Up to so many bytes of a body that nobody reads are dropped to keep the connection."""
PIPELINED_AT_ONCE = 16
"""Pipelined requests after which other connections are served first."""
_FRAMING = frozenset((b"content-length", b"transfer-encoding", b"host"))
LONGEST_CONTENT_LENGTH = 18
"""Digits; more is no real length, and Python refuses to convert more than 4300."""

METHODS = frozenset(
    (b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS", b"TRACE", b"CONNECT")
)
"""The methods of HTTP, in capitals; which of them a path takes, its route decides."""
_HOST = re.compile(rb"(?:\[[0-9A-Fa-f:.]++\]|[A-Za-z0-9._~!$&'()*+,;=%-]*+)(?::[0-9]{0,5}+)?")


class TransferDecoder(Protocol):
    """Twisted's decoder of a body: by its length, or of chunks."""

    def dataReceived(self, data: bytes, /) -> object: ...


class ServingSite(TimedSite, RequestSite, Protocol):
    """The site, as its connections see it."""

    draining: bool
    retiring: bool

    @property
    def channels(self) -> set["StreamingChannel"]: ...


class StreamingChannel(HalfClosedChannel):
    """One connection."""

    site: ServingSite
    _transferDecoder: TransferDecoder
    _path: bytes  # type: ignore[assignment]  # what Twisted calls a request in between
    _body_paused = False
    _body_broken = False
    _in_a_row = 0
    _has_host = False

    def connectionMade(self) -> None:
        super().connectionMade()
        self.socket_transport.bufferSize = UNREAD_LIMIT
        self._take_limits()
        self._enter()

    def _enter(self) -> None:
        self._counted_as = self.site.connection_limits.enter(getattr(self.getPeer(), "host", None))
        self.site.channels.add(self)

    def _take_limits(self) -> None:
        self.MAX_LENGTH = self.site.limits.max_header_line
        self.totalHeadersSize = self.site.limits.max_headers_size
        self.maxHeaders = self.site.limits.max_headers

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._exit()
        super().connectionLost(reason)
        self._forget_unsent()

    def _exit(self) -> None:
        if self in self.site.channels:
            self.site.channels.remove(self)
            self.site.connection_limits.leave(self._counted_as)
            self.site.answers.forget(self)

    # -- headers ----------------------------------------------------------------------------------

    def dataReceived(self, data: bytes) -> None:
        if self._leaving:
            if not self._unsent:
                self.resetTimeout()
            return
        super().dataReceived(data)
        if not self.line_mode or self.paused or not (self._buffer or self.requests):
            self._headers_since = None
        elif self._headers_since is None:
            self._headers_since = self.site.seconds()

    def headerReceived(self, line: bytes) -> bool:
        name, _, value = line.partition(b":")
        name, value = name.lower(), value.strip()
        if name in _FRAMING and not self._is_sound(name, value):
            self._respondToBadRequestAndDisconnect()
            return False
        return bool(super().headerReceived(line))

    def _is_sound(self, name: bytes, value: bytes) -> bool:
        """Check what a proxy in front could read differently; Twisted checks the rest."""
        if name == b"content-length":
            return len(value) <= LONGEST_CONTENT_LENGTH
        if name == b"transfer-encoding":
            return value.lower() == b"chunked" and self._version == b"HTTP/1.1"
        is_first, self._has_host = not self._has_host, True
        return is_first and _HOST.fullmatch(value) is not None

    def allHeadersReceived(self) -> None:
        self._headers_since = None
        self.speaks_http_1_1 = self._version == b"HTTP/1.1"
        has_host, self._has_host = self._has_host, False
        if self.speaks_http_1_1 and not has_host:
            self._refuse(400, "There is no Host header.")
            return
        if self._command not in METHODS:
            self._refuse(501, "The method of the request is not known.")
            return
        super().allHeadersReceived()
        if self.length != 0:
            request = self.requests[-1]
            # There is no timeout for a client that waits for `100 Continue`.
            self.setTimeout(None if request.body.expects_continue else self.timeOut)
            request.headers_complete(self._command, self._path, self._version)

    def checkPersistence(self, request: StreamingRequest, version: bytes) -> bool:
        """Find `close` in a list as well, which Twisted does not."""
        values = request.requestHeaders.getRawHeaders(b"connection")
        if values and b"close" in _listed(values):
            request.requestHeaders.setRawHeaders(b"connection", [b"close"])
        return bool(super().checkPersistence(request, version))

    def _send100Continue(self) -> None:
        """Do nothing: the body sends it with its first read, and Twisted would at once."""

    def lineLengthExceeded(self, line: bytes) -> None:
        if self.requests:
            self._refuse(431, "A header is too long.")
        else:
            self._refuse(414, "The URL is too long.")

    def _respondToBadRequestAndDisconnect(self) -> None:
        too_large = (
            self._receivedHeaderSize > self.totalHeadersSize
            or self._receivedHeaderCount > self.maxHeaders
        )
        if too_large:
            self._refuse(431, "The headers are too many or too long.")
        else:
            self._refuse(400, "The head of the request is malformed.")

    def _refuse(self, status: int, message: str) -> None:
        """Answer a request that cannot be handled, and end the connection."""
        if self._leaving:
            return
        body = error_object(status, message)
        self.transport.write(
            b"HTTP/1.1 %d %s\r\nConnection: close\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n%s" % (status, reason(status), len(body), body)
        )
        for request in self.requests:
            request.refused(status)
        self._leave()

    # -- the body ---------------------------------------------------------------------------------

    def rawDataReceived(self, data: bytes) -> None:
        if self._body_broken:
            return
        try:
            if self._handlingRequest:
                super().rawDataReceived(data)
            else:
                self._transferDecoder.dataReceived(data)
        except _MalformedChunkedDataError as error:
            self._body_broken = True
            self.persistent = 0
            request = self.requests[-1]
            request.body.fail(f"The chunked request body is malformed: {error}")
            if request.finished:
                self._leave()

    def must_send(self) -> bool:
        if not self.requests or self._body_paused or self._waitingForTransport:
            return False
        request = self.requests[-1]
        return request.has_headers and request.body.is_awaited

    def body_is_too_slow(self) -> None:
        """Answer 408 through the handler, where an answer has not begun."""
        request = self.requests[-1]
        if request.startedWriting:
            self.abort()
            return
        self._body_broken = True
        self.persistent = 0
        request.body.fail("The request body came too slowly.", BodyTooSlow)

    def allContentReceived(self) -> None:
        if self._leaving:  # its headers were refused
            return
        self.setTimeout(self.timeOut)  # Twisted saves this for the time between requests
        super().allContentReceived()

    def pause_body(self) -> None:
        self._body_paused = True
        self.setTimeout(None)
        self._networkProducer.pauseProducing()

    def resume_body(self) -> None:
        self._body_paused = False
        if not self._handlingRequest:
            self.setTimeout(self.timeOut)
        if not self._waitingForTransport:
            self._networkProducer.resumeProducing()

    def read_at_once(self, size: int) -> None:
        self.socket_transport.bufferSize = min(READ_SIZE, size)

    def send_continue(self) -> None:
        self.setTimeout(self.timeOut)
        if not self.requests[0].startedWriting:
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    # -- the answer -------------------------------------------------------------------------------

    def answer_begins(self, request: StreamingRequest) -> None:
        """Decide, before the headers are sent, whether the connection is kept after the answer."""
        # Twisted has one limit for reading and for writing.
        self.socket_transport.bufferSize = READ_SIZE
        if self._is_last() or not (request.body.complete or _may_drain(request.body)):
            self.persistent = 0
            request.setHeader(b"connection", b"close")

    def _is_last(self) -> bool:
        """Whether no further request can be served on this connection, here or in a successor."""
        site = self.site
        cannot_move = site.retiring and self.transport is not self.socket_transport
        return site.draining or cannot_move or not site.limits.keepalive or self.has_received_all

    def answer_done_early(self, request: StreamingRequest) -> None:
        """Read the rest of the body, or close the connection."""
        request.body.discard()
        if self.persistent:
            self._linger_until = self.site.seconds() + self.site.limits.linger_time
            self.setTimeout(self.site.limits.linger_idle)
        else:
            self._leave()

    def requestDone(self, request: StreamingRequest) -> None:
        self._linger_until = None
        self.socket_transport.bufferSize = UNREAD_LIMIT
        if self.site.draining or self.has_received_all:
            self.persistent = 0
        if self._waitingForTransport:
            self.paused = True  # a pipelined request waits until this answer is sent
            self._networkProducer.pauseProducing()
        elif self.persistent and (self._buffer or self._dataBuffer):
            self._in_a_row += 1
            if self._in_a_row >= PIPELINED_AT_ONCE:
                self._yield_turn(request)
                return
        super().requestDone(request)
        self._send_now()

    def _send_now(self) -> None:
        """Send a short answer now and not in the next turn of the reactor, which sends the rest."""
        transport = self.socket_transport
        ends = not self.persistent or transport.disconnecting or not transport.connected
        if not ends and not self._waitingForTransport:
            transport.doWrite()
        unsent = self.unsent_bytes()
        if unsent >= LARGE:
            self.site.answers.note(self, unsent)

    def _yield_turn(self, request: StreamingRequest) -> None:
        """End a request, and let other connections go first before the next one."""
        self._in_a_row = 0
        self.paused = True
        super().requestDone(request)
        self._networkProducer.pauseProducing()
        self.callLater(0, self._go_on)

    def _go_on(self) -> None:
        if self.paused and not self._waitingForTransport and self in self.site.channels:
            self.resumeProducing()

    @property
    def output_waits(self) -> bool:
        """Whether the send buffer is full."""
        return bool(self._waitingForTransport)

    def resumeProducing(self) -> None:
        super().resumeProducing()
        if self._body_paused:
            self._networkProducer.pauseProducing()
        if self.paused:
            self.paused = False
            self.dataReceived(b"")

    # -- the end ----------------------------------------------------------------------------------

    def _leave(self) -> None:
        """Close our side, and read and drop what the client still sends.

        The kernel answers bytes for a closed socket with a reset, which could destroy our answer
        on its way. The client sees the end at once: a FIN, or over TLS a close_notify.
        """
        self._begin_leaving()
        self.clearLineBuffer()
        self._networkProducer.unregisterProducer()
        self._networkProducer.resumeProducing()
        if self.isSecure():
            self.transport.loseConnection()  # waits for the client's close_notify
        else:
            self.transport.loseWriteConnection()

    # -- moving to a successor --------------------------------------------------------------------

    def detach(self) -> socket.socket | None:
        """Take the socket out of an idle connection, for another process; None if it must stay.

        It must stay where the connection has state beside its socket: over TLS, behind the PROXY
        protocol, while it is being closed, and while something waits to be sent.
        """
        if self.transport is not self.socket_transport or self._leaving or self.unsent_bytes():
            return None
        taken: socket.socket = self.socket_transport.socket.dup()
        self.socket_transport._shouldShutdown = False  # a shutdown would hold for the copy, too
        self.socket_transport.connectionLost(Failure(connectionDone.value))
        return taken

    def move(self, site: ServingSite) -> None:
        """Move this idle connection to another site of this process."""
        self._exit()
        self.site = self.factory = site
        self._take_limits()
        self._enter()

    def go_on(self) -> None:
        """Wait for the next request on a connection that came from another process."""
        self.setTimeout(self.timeOut)


def _may_drain(body: RequestBody) -> bool:
    """Tell whether to read and drop the rest of a body, to keep the connection."""
    rest = body.outstanding
    return (
        rest is not None and rest <= DRAIN_LIMIT and not body.expects_continue and not body.failed
    )


def _listed(values: Sequence[bytes]) -> list[bytes]:
    """Return the elements of a header field's lists, lower-cased."""
    return [element.strip().lower() for value in values for element in value.split(b",")]
