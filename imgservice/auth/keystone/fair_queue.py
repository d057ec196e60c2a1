"""Lines in which those wait who want to ask Keystone."""

from collections import deque
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as Overdue

from imgservice.auth.keystone.errors import KeystoneError


class FairQueue:
    """Lets a few in at a time; those who wait are called in turns of where they come from.

    So one who sends very many delays himself, and the others hardly.
    """

    def __init__(self, reactor: Any, places: int, most_waiting: int) -> None:
        self._reactor = reactor
        self._free = places
        self._room = most_waiting
        self._lines: dict[str, deque[Deferred[None]]] = {}

    async def enter(self, source: str, timeout: float) -> None:
        """Return when it is one's turn, to call `leave` later; `KeystoneError` if never."""
        if self._free:
            self._free -= 1
            return
        self._make_room(source)
        turn: Deferred[None] = Deferred()
        self._lines.setdefault(source, deque()).append(turn)
        self._room -= 1
        try:
            await turn.addTimeout(timeout, self._reactor)
        except Overdue:
            self._remove(source, turn)
            raise KeystoneError("too many wait for their turn") from None

    def leave(self) -> None:
        """Call the next one."""
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
        """Send somebody away if the room is full: the last one of the longest line."""
        if self._room > 0:
            return
        longest = max(self._lines, key=lambda one: len(self._lines[one]))
        if len(self._lines[longest]) <= len(self._lines.get(source, ())) + 1:
            raise KeystoneError("too many wait for their turn")
        turn = self._lines[longest][-1]
        self._remove(longest, turn)
        turn.errback(KeystoneError("too many wait for their turn"))

    def _remove(self, source: str, turn: Deferred[None]) -> None:
        line = self._lines[source]
        line.remove(turn)
        self._room += 1
        if not line:
            del self._lines[source]
