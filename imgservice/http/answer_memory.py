"""Bounds the memory of answers that are being made or that clients have not read yet."""

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
"""Bytes; smaller answers are not counted."""
GRACE = 5.0
"""Seconds that a client has to read its answer before it may be aborted for others."""
STALL = 1.0
"""Seconds without reading anything after which it may be aborted."""
CHECK_INTERVAL = 0.1

_log = Logger()


class AnswerReader(Protocol):
    """A connection whose client has an answer to read."""

    def unsent_bytes(self) -> int: ...

    def abort(self) -> None: ...


@attrs.define
class _Unread:
    """An answer that a client has to read: its size, what is left, and since when that much is."""

    size: int
    at: float
    left: int
    since: float

    def see(self, left: int, now: float) -> None:
        if left != self.left:
            self.left, self.since = left, now

    def may_be_aborted(self, now: float) -> bool:
        return now - self.since >= STALL or now - self.at >= GRACE

    def rate(self, now: float) -> float:
        return (self.size - self.left) / max(now - self.at, CHECK_INTERVAL)


class AnswerMemory:
    """Bounds the memory of large answers in a process.

    A large answer is made once there is room. When clients do not read theirs, the connections of
    the slowest readers are aborted for others.
    """

    def __init__(self, reactor: Clock, most: int) -> None:
        self._reactor = reactor
        self._most = most
        self._making = 0
        self._waiting: deque[tuple[int, Deferred[None]]] = deque()
        self._unread: dict[AnswerReader, _Unread] = {}
        self._next_check: DelayedCall | None = None
        self._is_admitting = False
        self._aborted = LogLimit(reactor)

    def note(self, reader: AnswerReader, unsent: int) -> None:
        """Count what a client has to read, until it has read it."""
        known = self._unread.get(reader)
        if known is None or known.size < unsent:
            now = self._reactor.seconds()
            self._unread[reader] = _Unread(unsent, now, unsent, now)

    def forget(self, reader: AnswerReader) -> None:
        """Stop counting a connection that has ended."""
        if self._unread.pop(reader, None) is not None and self._waiting:
            self._plan_check(0)

    async def room(self, size: int) -> AbstractContextManager[None]:
        """Wait for room for an answer; it is reserved while the result is entered.

        At most half of the memory is reserved, however large the answer is.
        """
        size = min(size, self._most // 2)
        if self._waiting or not self._has_room(size):
            admitted: Deferred[None] = Deferred()
            self._waiting.append((size, admitted))
            self._plan_check(0)
            await admitted
        else:
            self._making += size
        return self._made(size)

    def admits(self, size: int) -> bool:
        """Tell whether an answer that is already made may be sent; make room for it if need be.

        Only unread answers count here: this one is in memory in any case.
        """
        if self._unread and self._unread_bytes() + size > self._most:
            self._make_room(size)
        return not self._unread or self._unread_bytes() + size <= self._most

    def _has_room(self, size: int) -> bool:
        """Tell whether there is room for an answer; there always is for a single one."""
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

    # -- the queue --------------------------------------------------------------------------------

    def _plan_check(self, seconds: float) -> None:
        if self._next_check is None:
            self._next_check = self._reactor.callLater(seconds, self._check)
        elif not seconds:
            self._next_check.reset(0)

    def _check(self) -> None:
        self._next_check = None
        self._admit()
        if self._waiting:
            self._make_room(self._waiting[0][0])
            self._admit()
        if self._waiting:
            self._plan_check(CHECK_INTERVAL)

    def _admit(self) -> None:
        if self._is_admitting:
            return  # called again by one that was admitted and has ended already
        self._is_admitting = True
        try:
            while self._waiting and self._has_room(self._waiting[0][0]):
                size, admitted = self._waiting.popleft()
                self._making += size
                admitted.callback(None)
        finally:
            self._is_admitting = False

    def _make_room(self, size: int) -> None:
        """Abort the connections of the slowest readers that have had some time to read."""
        lacking = self._making + self._unread_bytes() + size - self._most
        now = self._reactor.seconds()
        slow = [one for one, unread in self._unread.items() if unread.may_be_aborted(now)]
        for reader in sorted(slow, key=lambda one: self._unread[one].rate(now)):
            if lacking <= 0:
                return
            lacking -= self._unread.pop(reader).left
            self._warn()
            reader.abort()

    def _warn(self) -> None:
        if count := self._aborted.due():
            _log.warn(
                "Aborted {count} connections that did not read their answers:"
                " others need the memory (server.answer_memory)",
                count=count,
            )
