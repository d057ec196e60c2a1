"""Work that several wait for, and lines in which they wait."""

from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as Overdue
from twisted.python.failure import Failure

from imgservice.auth.keystone.errors import KeystoneError

K = TypeVar("K")
V = TypeVar("V")


class Once(Generic[K, V]):
    """Lets all who want the same at the same time share one piece of work."""

    def __init__(self) -> None:
        self._waiting: dict[K, list[Deferred[V]]] = {}

    def share(self, key: K, start: Callable[[], Coroutine[Any, Any, V]]) -> Deferred[V]:
        """Return what comes of the work, which is begun unless it is under way already.

        Who cancels only stops to wait.
        """
        waiter: Deferred[V] = Deferred()
        waiters = self._waiting.get(key)
        if waiters is not None:
            waiters.append(waiter)
            return waiter
        self._waiting[key] = [waiter]
        Deferred.fromCoroutine(start()).addBoth(self._tell, key)
        return waiter

    def _tell(self, result: V | Failure, key: K) -> None:
        for waiter in self._waiting.pop(key):
            if waiter.called:
                continue
            if isinstance(result, Failure):
                waiter.errback(result)
            else:
                waiter.callback(result)


class Turnstile:
    """Lets a few in at a time; those who wait are called in turns of where they come from.

    So one who sends very many delays himself, and the others hardly.
    """

    def __init__(self, reactor: Any, places: int, most_waiting: int) -> None:
        self._reactor = reactor
        self._free = places
        self._room = most_waiting
        self._lines: dict[str, deque[Deferred[None]]] = {}

    async def enter(self, source: str, patience: float) -> None:
        """Return when it is one's turn, to call `leave` later; `KeystoneError` if never."""
        if self._free:
            self._free -= 1
            return
        self._make_room(source)
        turn: Deferred[None] = Deferred()
        self._lines.setdefault(source, deque()).append(turn)
        self._room -= 1
        try:
            await turn.addTimeout(patience, self._reactor)
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
