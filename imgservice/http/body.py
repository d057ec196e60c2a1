"""The body of a request, received no faster than it is read."""

from collections import deque
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any, Protocol

import orjson

from imgservice.concurrency.wakeup import WakeUp
from imgservice.domain.errors import BodyAborted, Invalid, TooLarge

UNREAD_LIMIT = 64 << 10
"""Bytes taken from the socket before the body is read."""
DEEPEST = 100
"""The deepest nesting of lists and objects in a JSON document."""
SMALLEST_PART = 16 << 10
"""Bytes of a block, or of a read from the socket, however small the window is."""
SMALL_PIECE = 4 << 10
"""Smaller pieces are joined, so that tiny chunks do not cost much more memory than their bytes."""


class BodyFlow(Protocol):
    """The connection, as a body sees it."""

    def pause_body(self) -> None:
        """Stop reading from the socket for now."""

    def resume_body(self) -> None:
        """Read from the socket again."""

    def read_at_once(self, size: int) -> None:
        """Set how many bytes to read from the socket at a time, about."""

    def send_continue(self) -> None:
        """Send `100 Continue` to a client that waits for it."""


class RequestBody:
    """One request's body.

    Reading makes the client send: `100 Continue` is sent with the first read, and the socket is
    not read while more than `window` bytes wait here. There is one reader at a time.
    """

    def __init__(self, flow: BodyFlow, length: int | None, expects_continue: bool) -> None:
        self.length = length
        """Content-Length; None for a chunked body."""
        self.received = 0
        self.complete = length == 0
        self.expects_continue = expects_continue
        self._flow = flow
        self._window = UNREAD_LIMIT
        self._pieces: deque[bytes] = deque()
        self._buffered = 0
        self._paused = False
        self._discarding = False
        self._progress = WakeUp()
        self._wanted = 0
        self._failure: Callable[[], BodyAborted] | None = None
        """Makes it anew: the traceback of one that is kept here would keep blocks, too."""

    @property
    def outstanding(self) -> int | None:
        """How many bytes are still to come; None when only the client knows."""
        return None if self.length is None else self.length - self.received

    # -- for the reader -------------------------------------------------------------------------

    async def read(self, wanted: int = 1) -> bytes:
        """Return at least `wanted` bytes, or the last ones; empty at the end.

        `BodyAborted` when the connection ends before the body does.
        """
        self._window = max(self._window, wanted)
        self._begin()
        while self._buffered < wanted and not self.complete and self._failure is None:
            self._wanted = wanted
            await self._progress.wait()
        if self._failure is not None:
            raise self._failure()
        return self._take(wanted)

    async def blocks(self, size: int, window: Callable[[], int]) -> AsyncIterator[bytes]:
        """Yield the body in blocks of about `size` bytes.

        Before each block `window` tells how many bytes may wait. Blocks and reads from the socket
        are smaller in a small window.
        """
        self._fit(window())
        while block := await self.read(min(size, self._part())):
            self._fit(window())
            yield block

    def _fit(self, window: int) -> None:
        self._window = window
        self._flow.read_at_once(self._part())

    def _part(self) -> int:
        return max(SMALLEST_PART, self._window // 3)

    async def json(self, limit: int) -> Any:
        """Return the decoded document; `TooLarge` over `limit` bytes, `Invalid` for no JSON."""
        if (self.length or 0) > limit:
            raise TooLarge(f"The request body is longer than {limit} bytes.")
        pieces, total = [], 0
        while piece := await self.read():
            total += len(piece)
            if total > limit:
                raise TooLarge(f"The request body is longer than {limit} bytes.")
            pieces.append(piece)
        return decode_json(b"".join(pieces))

    def discard(self) -> None:
        """Drop what has arrived and what still arrives."""
        self._discarding = True
        self._pieces.clear()
        self._buffered = 0
        self._resume()

    def _begin(self) -> None:
        if self.expects_continue:
            self.expects_continue = False
            self._flow.send_continue()
        if self._buffered < self._window:
            self._resume()

    def _take(self, wanted: int) -> bytes:
        taken, total = [], 0
        while self._pieces and total < wanted:
            piece = self._pieces.popleft()
            total += len(piece)
            taken.append(piece)
        self._buffered -= total
        if self._buffered <= self._window // 2:
            self._resume()
        return taken[0] if len(taken) == 1 else b"".join(taken)

    def _resume(self) -> None:
        if self._paused and not self.complete:
            self._paused = False
            self._flow.resume_body()

    # -- for the connection ---------------------------------------------------------------------

    def feed(self, data: bytes) -> None:
        """Take what was read from the socket."""
        self.received += len(data)
        if self._discarding:
            return
        if self._pieces and len(self._pieces[-1]) + len(data) <= SMALL_PIECE:
            self._pieces[-1] += data
        else:
            self._pieces.append(data)
        self._buffered += len(data)
        if self._buffered >= self._window and not self._paused:
            self._paused = True
            self._flow.pause_body()
        if self._buffered >= self._wanted and self._progress.is_awaited:
            self._progress.wake()

    def end(self) -> None:
        """End the body. The socket is still read, to notice when the client disconnects."""
        self._resume()
        self.complete = True
        self._progress.wake()

    def fail(self, reason: str, kind: type[BodyAborted] = BodyAborted) -> None:
        """Fail the body: the rest of it will not arrive."""
        if not self.complete and self._failure is None:
            self._failure = partial(kind, reason)
            self._pieces.clear()
            self._progress.wake()

    @property
    def is_awaited(self) -> bool:
        """Whether the client is to send more of it now."""
        return not (self.complete or self.expects_continue or self.failed)

    @property
    def failed(self) -> bool:
        return self._failure is not None


def decode_json(data: bytes) -> Any:
    """Return the document; `Invalid` if it is no JSON, or nested too deeply."""
    if not data:
        raise Invalid("Body expected in request.")
    try:
        document = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise Invalid(f"Malformed JSON in request body: {error}.") from None
    if data.count(b"[") + data.count(b"{") > DEEPEST and _is_deep(document):
        raise Invalid(f"The JSON in the request body is nested more than {DEEPEST} deep.")
    return document


def _is_deep(document: Any) -> bool:
    level = [document]
    for _ in range(DEEPEST + 1):
        nested = [one for one in level if isinstance(one, dict | list)]
        level = [each for one in nested for each in (one.values() if type(one) is dict else one)]
        if not nested:
            return False
    return True
