"""The answers of other servers, read no faster than they are used."""

import re
from collections import deque
from collections.abc import AsyncGenerator, Mapping
from typing import Protocol as Interface

from twisted.internet.defer import TimeoutError as Overdue
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from twisted.web.client import Response, ResponseDone
from twisted.web.http import PotentialDataLoss

from imgservice.concurrency.reactor import Clock, ThreadedReactor, twisted_clock
from imgservice.concurrency.wakeup import WakeUp
from imgservice.domain.errors import TooLarge
from imgservice.net.errors import FetchFailed
from imgservice.net.limits import FetchLimits

MOST_WAITING = 256 << 10
"""Bytes of one answer that may wait in memory for their reader; one more piece may come."""


class Reading(Clock, ThreadedReactor, Interface):
    """What reading an answer needs of the reactor."""


class _Transport(Interface):
    """What Twisted gives to the readers of answers."""

    def pauseProducing(self) -> None: ...

    def resumeProducing(self) -> None: ...

    def loseConnection(self) -> None: ...


class Fetched:
    """The answer of another server."""

    def __init__(
        self, response: Response, method: str, reactor: Reading, limits: FetchLimits
    ) -> None:
        self.status: int = response.code
        self.headers: Mapping[str, str] = {
            name.decode("latin-1").lower(): values[0].decode("latin-1")
            for name, values in response.headers.getAllRawHeaders()
        }
        """The first of each name, in lower case."""
        self.length = _length(response, method)
        """How many bytes of data the server announces, None when it does not."""
        self._reactor = reactor
        self._body = _Body(reactor, limits)
        response.deliverBody(self._body)

    def abort(self) -> None:
        """Close the connection; harmless when the answer is complete."""
        self._body.abort()

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

    async def read(self, limit: int) -> bytes:
        """Return all of the data; `FetchFailed` when there are more than `limit` bytes."""
        try:
            return b"".join([block async for block in self.blocks(limit)])
        except TooLarge:
            raise FetchFailed(f"sends more than {limit} bytes") from None


def _length(response: Response, method: str) -> int | None:
    if method != "HEAD":
        length: object = response.length
        return length if isinstance(length, int) else None
    found = response.headers.getRawHeaders(b"content-length", [b""])
    return int(found[0]) if re.fullmatch(rb"[0-9]{1,19}", found[0]) else None


class _Body(Protocol):
    """The data of an answer, between the network and its reader."""

    transport: _Transport  # type: ignore[assignment]  # there is one as soon as it is delivered to

    def __init__(self, clock: Clock, limits: FetchLimits) -> None:
        self._clock = clock
        self._limits = limits
        self._waited = 0.0
        self._came = 0
        self._pieces: deque[bytes] = deque()
        self._waiting = 0
        self._paused = False
        self._ended = False
        self._error: FetchFailed | None = None
        self._arrival = WakeUp()

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

    def abort(self) -> None:
        self.transport.loseConnection()

    async def _wait(self) -> None:
        arrival = self._arrival.wait()
        begin = self._clock.seconds()
        try:
            await arrival.addTimeout(self._limits.idle, twisted_clock(self._clock))
        except Overdue as error:
            raise FetchFailed("sends no more data") from error
        self._waited += self._clock.seconds() - begin
        if self._waited >= self._limits.min_rate_time:
            self._check_rate()

    def _check_rate(self) -> None:
        """Give up on a server that keeps us waiting; time in which nobody reads does not count."""
        if self._came < self._limits.min_rate * self._waited:
            raise FetchFailed("sends its data too slowly")
        self._waited, self._came = 0.0, 0

    def _resume(self) -> None:
        if self._paused and not self._ended:
            self._paused = False
            self.transport.resumeProducing()

    def dataReceived(self, data: bytes) -> None:
        self._pieces.append(data)
        self._waiting += len(data)
        self._came += len(data)
        if self._waiting >= MOST_WAITING and not self._paused:
            self._paused = True
            self.transport.pauseProducing()
        self._arrival.wake()

    def connectionLost(self, reason: Failure | None = None) -> None:
        self._ended = True
        if reason is None or not reason.check(ResponseDone, PotentialDataLoss):
            self._error = FetchFailed("breaks off in the middle of its data")
        self._arrival.wake()
