"""The queue of those who wait to ask Keystone."""

from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as Overdue

from imgservice.concurrency.reactor import Clock, twisted_clock
from imgservice.keystone.errors import KeystoneError

_FULL = "too many requests wait for Keystone"


class FairQueue:
    """Lets a few in at a time; the sources of those who wait take turns.

    So a source that sends very many requests delays its own, and those of others hardly.
    """

    def __init__(self, clock: Clock, places: int, most_waiting: int) -> None:
        self._clock = clock
        self._free = places
        self._room = most_waiting
        self._lines: dict[str, deque[Deferred[None]]] = {}

    @asynccontextmanager
    async def turn(self, source: str, timeout: float) -> AsyncIterator[None]:
        """Hold a place; `KeystoneError` if there is none within `timeout` seconds."""
        await self.enter(source, timeout)
        try:
            yield
        finally:
            self.leave()

    async def enter(self, source: str, timeout: float) -> None:
        """Wait for a place, to be given up by `leave`; `KeystoneError` if there is none in time."""
        if self._free:
            self._free -= 1
            return
        self._make_room(source)
        turn: Deferred[None] = Deferred()
        self._lines.setdefault(source, deque()).append(turn)
        self._room -= 1
        try:
            await turn.addTimeout(timeout, twisted_clock(self._clock))
        except Overdue:
            self._remove(source, turn)
            raise KeystoneError(_FULL) from None

    def leave(self) -> None:
        """Give the place to the next one in the queue."""
        if not self._lines:
            self._free += 1
            return
        source = next(iter(self._lines))
        line = self._lines.pop(source)
        turn = line.popleft()
        self._room += 1
        if line:
            self._lines[source] = line  # which is now the last one
        turn.callback(None)

    def _make_room(self, source: str) -> None:
        """If the queue is full, drop the last one of the source that has most waiting."""
        if self._room > 0:
            return
        longest = max(self._lines, key=lambda one: len(self._lines[one]))
        if len(self._lines[longest]) <= len(self._lines.get(source, ())) + 1:
            raise KeystoneError(_FULL)
        turn = self._lines[longest][-1]
        self._remove(longest, turn)
        turn.errback(KeystoneError(_FULL))

    def _remove(self, source: str, turn: Deferred[None]) -> None:
        line = self._lines[source]
        line.remove(turn)
        self._room += 1
        if not line:
            del self._lines[source]
