"""Answers in memory: those that are being made, and those that clients have not read yet."""

from collections import deque
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

import attrs
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from imgservice.concurrency.reactor import Clock, DelayedCall
from imgservice.http.log_limit import LogLimit

LARGE = 64 << 10
"""Bytes from which on an answer is counted."""
GRACE = 5.0
"""Seconds that a client has for reading before others may need the memory more."""
STALL = 1.0
"""Seconds in which it must have read something."""
LOOK_INTERVAL = 0.1

_log = Logger()


class AnswerReader(Protocol):
    """A connection whose client has an answer to read."""

    def unsent_bytes(self) -> int: ...

    def abort(self) -> None: ...


@attrs.define
class _Unread:
    """What a client got to read and when, what is left of it, and since when so much is."""

    size: int
    at: float
    left: int
    since: float

    def see(self, left: int, now: float) -> None:
        if left != self.left:
            self.left, self.since = left, now

    def may_be_cut(self, now: float) -> bool:
        return now - self.since >= STALL or now - self.at >= GRACE

    def rate(self, now: float) -> float:
        return (self.size - self.left) / max(now - self.at, LOOK_INTERVAL)


class AnswerMemory:
    """Bounds the memory of large answers in a process.

    Whoever is about to make one waits until there is room. When that would never come, because
    clients do not read theirs, those who read most slowly are cut.
    """

    def __init__(self, reactor: Clock, most: int) -> None:
        self._reactor = reactor
        self._most = most
        self._making = 0
        self._waiting: deque[tuple[int, Deferred[None]]] = deque()
        self._unread: dict[AnswerReader, _Unread] = {}
        self._next_look: DelayedCall | None = None
        self._is_admitting = False
        self._cuts = LogLimit(reactor)

    def note(self, reader: AnswerReader, unsent: int) -> None:
        """Count what a client has to read, until it has."""
        known = self._unread.get(reader)
        if known is None or known.size < unsent:
            now = self._reactor.seconds()
            self._unread[reader] = _Unread(unsent, now, unsent, now)

    def forget(self, reader: AnswerReader) -> None:
        """Count a connection no more that has ended."""
        if self._unread.pop(reader, None) is not None and self._waiting:
            self._plan_look(0)

    async def room(self, size: int) -> AbstractContextManager[None]:
        """Wait for room for an answer; it is kept free while the result is entered.

        An answer that would take more than half of all is taken for half.
        """
        size = min(size, self._most // 2)
        if self._waiting or not self._has_room(size):
            turn: Deferred[None] = Deferred()
            self._waiting.append((size, turn))
            self._plan_look(0)
            await turn
        else:
            self._making += size
        return self._made(size)

    def admits(self, size: int) -> bool:
        """Tell whether an answer that is made already may be sent, making room for it if need be.

        Only those that are unread count here: it is in memory in any case.
        """
        if self._unread and self._unread_bytes() + size > self._most:
            self._make_room(size)
        return not self._unread or self._unread_bytes() + size <= self._most

    def _has_room(self, size: int) -> bool:
        """Tell whether so much more may be in memory now; one answer always may."""
        held = self._making + self._unread_bytes()
        return not held or held + size <= self._most

    @contextmanager
    def _made(self, size: int) -> Iterator[None]:
        try:
            yield
        finally:
            self._making -= size
            self._admit()

    def _unread_bytes(self) -> int:
        now = self._reactor.seconds()
        for reader, unread in list(self._unread.items()):
            unread.see(reader.unsent_bytes(), now)
            if not unread.left:
                del self._unread[reader]
        return sum(unread.left for unread in self._unread.values())

    # -- who waits --------------------------------------------------------------------------------

    def _plan_look(self, seconds: float) -> None:
        if self._next_look is None:
            self._next_look = self._reactor.callLater(seconds, self._look)
        elif not seconds:
            self._next_look.reset(0)

    def _look(self) -> None:
        self._next_look = None
        self._admit()
        if self._waiting:
            self._make_room(self._waiting[0][0])
            self._admit()
        if self._waiting:
            self._plan_look(LOOK_INTERVAL)

    def _admit(self) -> None:
        if self._is_admitting:
            return  # whoever was let in has ended in the same breath
        self._is_admitting = True
        try:
            while self._waiting and self._has_room(self._waiting[0][0]):
                size, turn = self._waiting.popleft()
                self._making += size
                turn.callback(None)
        finally:
            self._is_admitting = False

    def _make_room(self, size: int) -> None:
        """Cut those who read most slowly, if they have had some time for it."""
        lacking = self._making + self._unread_bytes() + size - self._most
        now = self._reactor.seconds()
        slow = [one for one, unread in self._unread.items() if unread.may_be_cut(now)]
        for reader in sorted(slow, key=lambda one: self._unread[one].rate(now)):
            if lacking <= 0:
                return
            lacking -= self._unread.pop(reader).left
            self._tell()
            reader.abort()

    def _tell(self) -> None:
        if count := self._cuts.due():
            _log.warn(
                "Cut {cut} connections that did not read their answers: others need the memory"
                " (server.answer_memory)",
                cut=count,
            )
