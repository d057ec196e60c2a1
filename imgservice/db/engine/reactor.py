"""The database driver whose connections belong to the reactor: no thread, a bounded, fair pool."""

import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol, TypeVar

import attrs
from sqlalchemy import Dialect
from twisted.internet.defer import Deferred

from imgservice.db.engine.database import (
    RETRY_PAUSES,
    Fault,
    Rows,
    Tell,
    UniqueViolation,
    Work,
    jittered,
    reason_of,
    told_nobody,
)
from imgservice.db.engine.statement import Compiled, Parameters, Statement
from imgservice.domain.errors import Unavailable

T = TypeVar("T")

UNAVAILABLE = "The database is not available."


class Connection(Protocol):
    """A connection that never blocks."""

    async def execute(self, compiled: Compiled, values: Sequence[object]) -> Rows: ...

    async def execute_many(
        self, compiled: Compiled, values: Sequence[Sequence[object]]
    ) -> None: ...

    async def command(self, sql: str) -> None: ...

    @property
    def is_usable(self) -> bool: ...

    def watch(self, lost: Callable[[], None]) -> None: ...

    def abort(self, error: Exception) -> None: ...

    def close(self) -> None: ...


class Driver(Protocol):
    """What the pool must know about one kind of database."""

    @property
    def dialect(self) -> Dialect: ...
    @property
    def begin_read(self) -> str: ...
    @property
    def begin_write(self) -> str: ...

    async def connect(self, reactor: Any) -> Connection: ...

    def fault(self, error: BaseException) -> Fault | None: ...


@attrs.frozen
class PoolLimits:
    """How many, and how long; seconds."""

    connections: int = 10
    waiting: int = 10_000
    """Those who want a connection while there is none."""
    timeout: float = 30.0
    """How long each of them waits."""
    connect: float = 5.0
    answer: float = 60.0
    """A server that has not answered a statement for so long is taken to be gone."""


class Silence(Exception):
    """The database has not answered for too long."""

    def __init__(self) -> None:
        super().__init__("it does not answer")


class Pool:
    """Connections that are made when they are needed, and given to who has waited longest."""

    def __init__(self, driver: Driver, reactor: Any, limits: PoolLimits) -> None:
        self._driver = driver
        self._reactor = reactor
        self._limits = limits
        self._idle: list[Connection] = []
        self._waiting: deque[Deferred[None]] = deque()
        self._busy: dict[Connection, float] = {}
        self._making = 0
        self._watch: Any = None
        self._emptied: Deferred[None] | None = None
        self.is_closed = False

    async def take(self) -> Connection:
        """Return a connection, for `give` or `drop`; `Unavailable` when there is none in time."""
        while True:
            if self.is_closed:
                raise Unavailable("The database is closed.")
            if self._idle:
                return self._use(self._idle.pop())
            if len(self._busy) + self._making < self._limits.connections:
                return self._use(await self._make())
            await self._queue()

    def give(self, connection: Connection) -> None:
        """Take a connection back, in which no transaction is open."""
        del self._busy[connection]
        if self.is_closed or not connection.is_usable:
            connection.close()
        else:
            self._idle.append(connection)
        self._next()

    def drop(self, connection: Connection) -> None:
        """Close a connection that is of no use any more."""
        self._busy.pop(connection, None)
        if connection in self._idle:
            self._idle.remove(connection)
        connection.close()
        self._next()

    async def close(self) -> None:
        """Wait for those in use, then close all."""
        self.is_closed = True
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

    def _use(self, connection: Connection) -> Connection:
        self._busy[connection] = time.monotonic()
        if self._watch is None:
            self._watch = self._reactor.callLater(self._limits.answer / 4, self._look)
        return connection

    async def _make(self) -> Connection:
        self._making += 1
        try:
            making: Deferred[Connection] = Deferred.fromCoroutine(
                self._driver.connect(self._reactor)
            )
            making.addTimeout(self._limits.connect, self._reactor, _too_late)
            connection = await making
        except BaseException:
            self._making -= 1
            # Not now: each of those who wait would fail inside the failure of another.
            self._reactor.callLater(0, self._next)
            raise
        self._making -= 1
        connection.watch(lambda: self.drop(connection))
        return connection

    async def _queue(self) -> None:
        if len(self._waiting) >= self._limits.waiting:
            raise Unavailable("Too many requests wait for the database.")
        turn: Deferred[None] = Deferred(self._waiting.remove)
        self._waiting.append(turn)
        turn.addTimeout(self._limits.timeout, self._reactor, _too_late)
        try:
            await turn
        except Silence:
            raise Unavailable(UNAVAILABLE) from None

    def _next(self) -> None:
        """Let the one who has waited longest try again."""
        if self._waiting:
            self._waiting.popleft().callback(None)
        if self._emptied is not None and not self._busy and not self._making:
            emptied, self._emptied = self._emptied, None
            emptied.callback(None)

    def _look(self) -> None:
        """End the waiting for servers that are silent, as long as any connection is in use."""
        self._watch = None
        limit = time.monotonic() - self._limits.answer
        for connection, since in list(self._busy.items()):
            if since < limit:
                connection.abort(Silence())
        if self._busy:
            self._watch = self._reactor.callLater(self._limits.answer / 4, self._look)

    def touch(self, connection: Connection) -> None:
        """Note that the connection begins to wait for an answer."""
        self._busy[connection] = time.monotonic()


def _too_late(result: object, seconds: float) -> None:
    raise Silence


class ReactorTransaction:
    """A transaction on a connection of the reactor."""

    def __init__(self, connection: Connection, driver: Driver, touch: Callable[[], None]) -> None:
        self._connection = connection
        self._driver = driver
        self._touch = touch
        self._ended = False

    async def execute(self, statement: Statement, parameters: Parameters) -> Rows:
        compiled = statement.compiled(self._driver.dialect)
        values = compiled.values(parameters)
        self._begin()
        return await self._guarded(self._connection.execute(compiled, values))

    async def execute_many(self, statement: Statement, parameters: Sequence[Parameters]) -> None:
        if parameters:
            compiled = statement.compiled(self._driver.dialect)
            values = [compiled.values(each) for each in parameters]
            self._begin()
            await self._guarded(self._connection.execute_many(compiled, values))

    def end(self) -> None:
        self._ended = True

    def _begin(self) -> None:
        if self._ended:
            raise RuntimeError("The transaction has ended")
        self._touch()

    async def _guarded(self, executed: Awaitable[T]) -> T:
        try:
            return await executed
        except Exception as error:
            if self._driver.fault(error) is Fault.UNIQUE:
                raise UniqueViolation(str(error)) from error
            raise


class ReactorDatabase:
    """A `Database` whose statements wait in the reactor."""

    def __init__(
        self, driver: Driver, reactor: Any, limits: PoolLimits, tell: Tell = told_nobody
    ) -> None:
        self._driver = driver
        self._reactor = reactor
        self._limits = limits
        self._pool = Pool(driver, reactor, limits)
        self._tell = tell

    async def run(self, work: Work[T]) -> T:
        return await self._repeat(lambda one: self._transact(one, self._driver.begin_write, work))

    async def read(self, work: Work[T]) -> T:
        return await self._repeat(lambda one: self._transact(one, self._driver.begin_read, work))

    async def fetch(
        self, statement: Statement, parameters: Parameters, convert: Callable[[Rows], T]
    ) -> T:
        compiled = statement.compiled(self._driver.dialect)
        values = compiled.values(parameters)
        return convert(await self._repeat(lambda one: one.execute(compiled, values)))

    async def lookup(
        self, statement: Statement, parameters: Parameters, convert: Callable[[Rows], T]
    ) -> T:
        return await self.fetch(statement, parameters, convert)

    async def close(self) -> None:
        await self._pool.close()

    async def _repeat(self, attempt: Callable[[Connection], Awaitable[T]]) -> T:
        pauses = iter(RETRY_PAUSES)
        while True:
            try:
                return await self._attempt(attempt)
            except Exception as error:
                self._retryable(error)
                pause = next(pauses, None)
                if pause is None:
                    raise self._unavailable(error) from error
            await self._sleep(jittered(pause))

    async def _attempt(self, attempt: Callable[[Connection], Awaitable[T]]) -> T:
        connection = await self._pool.take()
        outcome: Deferred[T] = Deferred()
        using: Deferred[T] = Deferred.fromCoroutine(self._use(connection, attempt))
        using.addBoth(lambda result: None if outcome.called else outcome.callback(result))
        return await outcome  # whoever cancels it leaves; the transaction goes on to its end

    async def _use(
        self, connection: Connection, attempt: Callable[[Connection], Awaitable[T]]
    ) -> T:
        try:
            value = await attempt(connection)
        except BaseException as error:
            if self._is_sound(error):
                self._pool.give(connection)
            else:
                self._pool.drop(connection)
            raise
        self._pool.give(connection)
        return value

    def _is_sound(self, error: BaseException) -> bool:
        """Tell whether the connection can be used again after the error."""
        if isinstance(error, Silence | _Broken):
            return False
        return self._driver.fault(error) not in (Fault.LOST, Fault.BROKEN)

    def _retryable(self, error: Exception) -> None:
        """Return when trying again makes sense; otherwise raise what the caller shall see."""
        if isinstance(error, _Broken):
            if isinstance(error.shown, Unavailable):
                self._unavailable(error.__cause__ or error)
            raise error.shown from error
        if isinstance(error, Silence):
            raise self._unavailable(error) from error
        fault = self._driver.fault(error)
        if isinstance(error, Unavailable) and not self._pool.is_closed:
            self._tell(f"all of its {self._limits.connections} connections are in use")
        if fault is None or fault is Fault.UNIQUE:
            raise error
        if fault is Fault.BROKEN:
            raise self._unavailable(error) from error

    def _unavailable(self, error: BaseException) -> Unavailable:
        self._tell(reason_of(error))
        return Unavailable(UNAVAILABLE)

    async def _transact(self, connection: Connection, begin: str, work: Work[T]) -> T:
        await connection.command(begin)
        transaction = ReactorTransaction(
            connection, self._driver, lambda: self._pool.touch(connection)
        )
        try:
            value = await work(transaction)
        except BaseException as error:
            await self._roll_back(connection, error)
            raise
        finally:
            transaction.end()
        await self._commit(connection)
        return value

    async def _commit(self, connection: Connection) -> None:
        self._pool.touch(connection)
        try:
            await connection.command("COMMIT")
        except Exception as error:
            if self._is_sound(error):
                await self._roll_back(connection, error)
                raise
            # It may have happened or not: a second run could do everything twice.
            raise _Broken(Unavailable("The database went away during a commit.")) from error

    async def _roll_back(self, connection: Connection, error: BaseException) -> None:
        if not self._is_sound(error):
            return  # the connection is dropped, which rolls back too
        try:
            await connection.command("ROLLBACK")
        except Exception as also:
            shown = error if isinstance(error, Exception) else also
            raise _Broken(shown) from error

    def _sleep(self, seconds: float) -> Deferred[None]:
        slept: Deferred[None] = Deferred()
        self._reactor.callLater(seconds, slept.callback, None)
        return slept


class _Broken(Exception):
    """The connection is of no use any more, whatever the caller is shown."""

    def __init__(self, shown: Exception) -> None:
        super().__init__(str(shown))
        self.shown = shown
