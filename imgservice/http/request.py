"""A request that is handled at the end of its headers; its body is read as it arrives."""

import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from io import BytesIO
from typing import Any, Protocol

from twisted.python.failure import Failure
from twisted.web.http import _MalformedChunkedDataError
from twisted.web.server import Request

from imgservice.domain.context import Context
from imgservice.domain.errors import BodyAborted
from imgservice.http.answer_memory import AnswerMemory
from imgservice.http.body import BodyFlow, RequestBody
from imgservice.http.route import NO_ROUTE
from imgservice.http.transport import SocketTransport, Transport

SMALL_CHUNK = 64
"""Bytes that the chunks of a body must have on average: each costs as much time as a thousand."""
SMALL_CHUNKS = 4096
"""How many empty chunks are tolerated, or a few more small ones."""
NO_ADDRESS = "-"
"""The peer of a connection through a Unix socket."""


class RequestSite(Protocol):
    """The site, as a request sees it."""

    @property
    def answers(self) -> AnswerMemory: ...

    def log(self, request: "StreamingRequest", /) -> None: ...


class RequestChannel(BodyFlow, Protocol):
    """The connection, as a request and its answer see it."""

    transport: Transport
    socket_transport: SocketTransport
    timeOut: float
    speaks_http_1_1: bool

    @property
    def site(self) -> RequestSite: ...

    @property
    def output_waits(self) -> bool:
        """Whether the send buffer is full."""

    def getPeer(self) -> object: ...

    def callLater(self, delay: float, call: Callable[[], object], /) -> object: ...

    def setTimeout(self, period: float | None, /) -> float | None: ...

    def resetTimeout(self) -> None: ...

    def answer_begins(self, request: "StreamingRequest", /) -> None: ...

    def answer_done_early(self, request: "StreamingRequest", /) -> None: ...

    def abort(self) -> None: ...


class StreamingRequest(Request):
    """A request whose body is read on demand; carries what every handler needs to know."""

    channel: RequestChannel  # type: ignore[assignment]  # Twisted names its own class here
    prepath: list[bytes]
    postpath: list[bytes]
    body: RequestBody
    context: Context = Context()
    identified = False
    """Whether one of the modes of authentication has established the context."""
    request_id = ""
    api_version = ""
    """"v2", once the version is known; the path after it is in `postpath`."""
    route = NO_ROUTE
    """The route that serves it, once it is known."""
    encode: Callable[[Any], Awaitable[Any]] | None = None
    """Encodes the `Response` before it is sent, where a step of the pipeline has set it."""
    client_address: str | None = None
    """The address of the client, as trusted proxies forwarded it."""
    base_url: str | None = None
    """The URL under which the client knows the service, when a trusted proxy told; else None."""
    aborted = False
    has_headers = False
    _smallness = 0

    def __init__(self, channel: RequestChannel, *args: object, **kwargs: object) -> None:
        super().__init__(channel, *args, **kwargs)
        self.started_at = time.monotonic()
        self.peer: str = getattr(channel.getPeer(), "host", None) or NO_ADDRESS

    # -- the life of a request, in order ----------------------------------------------------------

    def gotLength(self, length: int | None) -> None:
        self.content = BytesIO()
        self.has_headers = True
        expect = self.requestHeaders.getRawHeaders(b"Expect")
        waits = expect is not None and expect[0].lower() == b"100-continue"
        self.body = RequestBody(self.channel, length, waits and self.channel.speaks_http_1_1)

    def headers_complete(self, command: bytes, path: bytes, version: bytes) -> None:
        """Handle the request soon, whether or not its body has arrived by then."""
        self._line = (command, path, version)
        self.channel.callLater(0, self._begin)

    def _begin(self) -> None:
        if not self._disconnected:
            super().requestReceived(*self._line)

    def handleContentChunk(self, data: bytes) -> None:
        if self.body.length is None:
            self._smallness = max(0, self._smallness + SMALL_CHUNK - len(data))
            if self._smallness > SMALL_CHUNK * SMALL_CHUNKS:
                raise _MalformedChunkedDataError("its chunks are too small")
        self.body.feed(data)

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        """Handle a complete request, or end the body of one that is being handled."""
        if self.body.complete:
            super().requestReceived(command, path, version)
        else:
            answered_early = self.finished
            self.body.end()  # which may run the handler to its end
            if answered_early:
                self._cleanup()

    def write(self, data: bytes) -> None:
        if not self.startedWriting and not self._disconnected:
            self.responseHeaders.removeHeader(b"server")  # Twisted's, with its version
            self.channel.answer_begins(self)
        super().write(data)

    def finish(self) -> None:
        if self.body.complete or self._disconnected:
            super().finish()
        else:
            self.queued = True  # keeps the next request waiting until this one's body has arrived
            super().finish()
            self.channel.answer_done_early(self)

    async def room(self, size: int) -> AbstractContextManager[None]:
        """Wait for memory for a large answer; `BodyAborted` when the client is gone."""
        if not self.disconnected:
            room = await self.channel.site.answers.room(size)
            if not self._disconnected:
                return room
            with room:
                pass
        raise BodyAborted("The client closed the connection before its answer was made.")

    def refused(self, status: int) -> None:
        """Record that the connection refused this before it became a request to handle."""
        self.code, self.finished = status, 1
        self.channel.site.log(self)

    def connectionLost(self, reason: Failure) -> None:
        if self.has_headers and not self.finished:
            self.aborted = True
            self.channel.site.log(self)
        super().connectionLost(reason)
        if self.has_headers:
            self.body.fail("The client closed the connection before the end of the request body.")

    @property
    def source(self) -> str:
        """The address of the client, or of the nearest thing to it that is known."""
        return self.client_address or self.peer

    @property
    def disconnected(self) -> bool:
        return bool(self._disconnected)

    @property
    def is_transfer(self) -> bool:
        """Whether its body is still being received, or its answer being sent."""
        return self.has_headers and (not self.body.complete or bool(self.startedWriting))

    # -- conveniences -----------------------------------------------------------------------------

    def header(self, name: str) -> str | None:
        """Return the first value of a header field."""
        values = self.header_values(name)
        return values[0] if values else None

    def header_values(self, name: str) -> list[str]:
        """Return all values of a header field, with invalid UTF-8 replaced."""
        values = self.requestHeaders.getRawHeaders(name.encode("ascii"), [])
        return [value.decode("utf-8", "replace") for value in values]

    def url_base(self) -> str:
        """Return scheme and authority (and a proxy's prefix) of the URL that the client used."""
        if self.base_url is not None:
            return self.base_url
        scheme = "https" if self.isSecure() else "http"
        host = self.header("host") or f"{self.getHost().host}:{self.getHost().port}"
        return f"{scheme}://{host}"
