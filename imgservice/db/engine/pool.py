"""A bounded, fair pool of connections that belong to the reactor."""

import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

import attrs
from twisted.internet.defer import Deferred

from imgservice.concurrency.reactor import DelayedCall, Reactor, twisted_clock
from imgservice.db.engine.database import Tell
from imgservice.db.engine.transactions import DatabaseConnection, DatabaseKind, NoAnswer
from imgservice.domain.errors import Unavailable


class PooledConnection(DatabaseConnection, Protocol):
    """A connection that waits in the reactor."""

    @property
    def asked_at(self) -> float:
        """When, by the monotonic clock, it last sent something to the server."""

    def watch(self, lost: Callable[[], object]) -> None:
        """Call `lost` when the server closes the connection while nobody uses it."""

    def abort(self, error: Exception) -> None:
        """Fail the statement that waits for an answer; the connection cannot be used any more."""


class ReactorDriver(DatabaseKind, Protocol):
    """What the pool must know about one kind of database."""

    async def connect(self, reactor: Reactor) -> PooledConnection: ...


@attrs.frozen
class PoolLimits:
    """How many connections, how long a queue, and the timeouts in seconds."""

    connections: int = 10
    waiting: int = 10_000
    """Callers in the queue for a connection."""
    timeout: float = 30.0
    """How long each of them waits."""
    connect: float = 5.0
    answer: float = 60.0
    """A server that has not answered a statement for so long is taken to be gone."""


class Pool:
    """Connections that are opened on demand and given to the caller that has waited longest."""

    def __init__(
        self, driver: ReactorDriver, reactor: Reactor, limits: PoolLimits, tell: Tell
    ) -> None:
        self._driver = driver
        self._reactor = reactor
        self._limits = limits
        self._tell = tell
        self._idle: list[PooledConnection] = []
        self._waiting: deque[Deferred[None]] = deque()
        self._busy: set[PooledConnection] = set()
        self._making = 0
        self._watch: DelayedCall | None = None
        self._emptied: Deferred[None] | None = None
        self._is_closed = False

    async def take(self) -> PooledConnection:
        """Return a connection, for `give` or `drop`; `Unavailable` when there is none in time."""
        while True:
            if self._is_closed:
                raise Unavailable("The database is closed.")
            if self._idle:
                return self._use(self._idle.pop())
            if len(self._busy) + self._making < self._limits.connections:
                return self._use(await self._make())
            await self._queue()

    def give(self, connection: PooledConnection) -> None:
        """Take a connection back, in which no transaction is open."""
        self._busy.remove(connection)
        if self._is_closed or not connection.is_usable:
            connection.close()
        else:
            self._idle.append(connection)
        self._next()

    def drop(self, connection: PooledConnection) -> None:
        """Close a connection that cannot be used any more."""
        self._busy.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        connection.close()
        self._next()

    async def close(self) -> None:
        """Wait for the connections in use, then close all."""
        self._is_closed = True
        while self._waiting:
            self._waiting.popleft().callback(None)
        for connection in self._idle:
            connection.close()
        self._idle.clear()
        if self._busy or self._making:
            self._emptied = Deferred()
            await self._emptied
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None

    def _use(self, connection: PooledConnection) -> PooledConnection:
        self._busy.add(connection)
        self._plan_check()
        return connection

    async def _make(self) -> PooledConnection:
        self._making += 1
        try:
            making: Deferred[PooledConnection] = Deferred.fromCoroutine(
                self._driver.connect(self._reactor)
            )
            making.addTimeout(self._limits.connect, twisted_clock(self._reactor), _too_late)
            connection = await making
        except BaseException:
            self._making -= 1
            # Later: otherwise each waiting caller would fail inside the failure of another.
            self._reactor.callLater(0, self._next)
            raise
        self._making -= 1
        connection.watch(lambda: self.drop(connection))
        return connection

    async def _queue(self) -> None:
        if len(self._waiting) >= self._limits.waiting:
            raise self._exhausted("Too many requests wait for the database.")
        freed: Deferred[None] = Deferred(self._waiting.remove)
        self._waiting.append(freed)
        freed.addTimeout(self._limits.timeout, twisted_clock(self._reactor), _too_late)
        try:
            await freed
        except NoAnswer:
            raise self._exhausted("The database is not available.") from None

    def _exhausted(self, message: str) -> Unavailable:
        if not self._is_closed:
            self._tell(f"all of its {self._limits.connections} connections are in use")
        return Unavailable(message)

    def _next(self) -> None:
        """Let the caller that has waited longest try again."""
        if self._waiting:
            self._waiting.popleft().callback(None)
        if self._emptied is not None and not self._busy and not self._making:
            emptied, self._emptied = self._emptied, None
            emptied.callback(None)

    def _plan_check(self) -> None:
        if self._watch is None:
            self._watch = self._reactor.callLater(self._limits.answer / 4, self._check)

    def _check(self) -> None:
        """Abort connections whose server does not answer; repeat while any connection is in use."""
        self._watch = None
        limit = time.monotonic() - self._limits.answer
        for connection in list(self._busy):
            if connection.asked_at < limit:
                connection.abort(NoAnswer())
        if self._busy:
            self._plan_check()


def _too_late(result: object, seconds: float) -> None:
    raise NoAnswer
