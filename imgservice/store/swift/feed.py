"""The data of an image, divided into what goes into each object."""

import hashlib
from collections.abc import AsyncGenerator, AsyncIterator

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from imgservice.concurrency.threads import Threads
from imgservice.concurrency.wakeup import WakeUp

MOST_AT_ONCE = 1 << 20
"""Bytes that are handed on in one piece."""
HASH_WINDOW = 2 << 20
"""Bytes that may wait to be hashed."""


class DataFailed(Exception):
    """The data could not be had; `error` is what it raised."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error


class Feed:
    """Hands out the data. Whoever waits for it may be cancelled: nothing is lost."""

    def __init__(self, data: AsyncIterator[bytes]) -> None:
        self._data = data
        self._block = memoryview(b"")
        self._coming: Deferred[None] | None = None
        self._arrival = WakeUp()
        self._error: BaseException | None = None
        self._is_ended = False

    async def take(self, most: int) -> bytes:
        """Return up to so many bytes, none at the end; raise `DataFailed`."""
        await self.is_over()
        most = min(most, MOST_AT_ONCE)
        piece, self._block = self._block[:most], self._block[most:]
        whole = piece.obj
        return whole if isinstance(whole, bytes) and len(piece) == len(whole) else bytes(piece)

    async def is_over(self) -> bool:
        """Wait for data, or for its end, and tell which came."""
        while not self._block and not self._is_ended:
            if self._coming is None:
                self._coming = Deferred.fromCoroutine(self._next())
                self._coming.addBoth(self._arrived)
            if self._coming is not None:
                await self._arrival.wait()
        if not self._block and self._error is not None:
            raise DataFailed(self._error)
        return not self._block

    async def _next(self) -> None:
        try:
            self._block = memoryview(await anext(self._data))
        except StopAsyncIteration:
            self._is_ended = True

    def _arrived(self, result: Failure | None) -> None:
        self._coming = None
        if isinstance(result, Failure):
            self._error, self._is_ended = result.value, True
        self._arrival.wake()

    def close(self) -> None:
        """Let the data know that nobody waits for it any more."""
        if self._coming is not None:
            self._coming.cancel()


class Part:
    """The data of one object: the next bytes of the feed, up to a number or to its end."""

    def __init__(self, threads: Threads, feed: Feed, most: int | None, memory: int) -> None:
        """Keep the data as long as it is no more than `memory` bytes, so as to send it again."""
        self.size = 0
        self._feed = feed
        self._most = most
        self._memory = memory
        self._kept: list[bytes] | None = []
        self._digest = hashlib.md5(usedforsecurity=False)
        self._hashing = threads.serial_queue(HASH_WINDOW)

    @property
    def can_be_repeated(self) -> bool:
        return self._kept is not None

    async def blocks(self) -> AsyncGenerator[bytes, None]:
        """Yield what was taken from the feed before, and then the rest."""
        for block in list(self._kept or ()):
            yield block
        while block := await self._take():
            await self._hashing.put(self._digest.update, block)
            yield block

    async def _take(self) -> bytes:
        left = MOST_AT_ONCE if self._most is None else self._most - self.size
        block = await self._feed.take(left) if left else b""
        self.size += len(block)
        if self.size > self._memory:
            self._kept = None
        elif self._kept is not None and block:
            self._kept.append(block)
        return block

    async def md5(self) -> str:
        """Return the checksum of all that was sent, in hex."""
        await self._hashing.drain()
        return self._digest.hexdigest()
