"""Transactions on a blocking DBAPI connection, in the thread that owns it."""

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from time import sleep
from typing import Protocol, TypeVar, cast

from imgservice.db.engine.database import Rows, Tell, Work, told_nobody
from imgservice.db.engine.statement import Compiled, Parameters, Row, Statement
from imgservice.db.engine.transactions import Attempts, DatabaseKind

T = TypeVar("T")


class DbapiCursor(Protocol):
    """The part of a DBAPI cursor that is used here."""

    @property
    def rowcount(self) -> int: ...
    @property
    def description(self) -> object:
        """None when the statement has no result."""

    def execute(self, sql: str, values: list[object] = ..., /) -> object: ...
    def executemany(self, sql: str, values: Sequence[list[object]], /) -> object: ...
    def fetchall(self) -> Sequence[Row]: ...


class DbapiConnection(Protocol):
    """The part of a DBAPI connection that is used here; it leaves transactions to us."""

    def cursor(self) -> DbapiCursor: ...
    def close(self) -> None: ...


class ThreadDriver(DatabaseKind, Protocol):
    """What threads need to know about one kind of database."""

    @property
    def one_writer(self) -> bool:
        """Whether only one transaction at a time can write."""

    @property
    def is_embedded(self) -> bool:
        """Whether a read by key takes microseconds, because no other process has to answer."""

    def connect(self, read_only: bool, waits_for_locks: bool = True) -> DbapiConnection:
        """Connect; statements wait for locks, or fail at once on locked data."""


class BlockingConnection:
    """A DBAPI connection as transactions see it: its coroutines block and never suspend."""

    def __init__(self, connection: DbapiConnection) -> None:
        self._connection = connection
        self.is_usable = True

    def fetch(self, compiled: Compiled, values: list[object]) -> Rows:
        cursor = self._connection.cursor()
        cursor.execute(compiled.sql, values)
        raw = cursor.fetchall() if cursor.description else ()
        return Rows(compiled.rows(raw), cursor.rowcount)

    async def execute(self, compiled: Compiled, values: list[object]) -> Rows:
        return self.fetch(compiled, values)

    async def execute_many(self, compiled: Compiled, values: Sequence[list[object]]) -> None:
        self._connection.cursor().executemany(compiled.sql, values)

    async def command(self, sql: str) -> None:
        self._connection.cursor().execute(sql)

    def close(self) -> None:
        if self.is_usable:
            self.is_usable = False
            self._connection.close()


class Session:
    """One thread's connection: opened at its first use, and again after it was lost."""

    def __init__(
        self,
        driver: ThreadDriver,
        read_only: bool,
        pause: Callable[[float], object] = sleep,
        waits_for_locks: bool = True,
        tell: Tell = told_nobody,
    ) -> None:
        async def blocking_pause(seconds: float) -> None:
            pause(seconds)

        self._driver = driver
        self._read_only = read_only
        self._waits_for_locks = waits_for_locks
        self._attempts = Attempts(driver, blocking_pause, tell)
        self._connection: BlockingConnection | None = None

    def transact(self, begin: Sequence[str], work: Work[T]) -> T:
        return self._repeat(lambda one: self._attempts.transact(one, begin, work))

    def fetch(
        self, statement: Statement, parameters: Parameters, convert: Callable[[Rows], T]
    ) -> T:
        compiled = statement.compiled(self._driver.dialect)
        values = compiled.values(parameters)
        return convert(self._repeat(lambda one: one.execute(compiled, values)))

    def fetch_at_once(self, statement: Statement, parameters: Parameters) -> Rows | None:
        """Try once, and return None when the database cannot answer now."""
        compiled = statement.compiled(self._driver.dialect)
        try:
            return self._connected().fetch(compiled, compiled.values(parameters))
        except Exception as error:
            if self._driver.fault(error) is None:
                raise
            self.close()
            return None

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _repeat(self, attempt: Callable[[BlockingConnection], Awaitable[T]]) -> T:
        return finish(self._attempts.repeat(lambda: self._attempt(attempt)))

    async def _attempt(self, attempt: Callable[[BlockingConnection], Awaitable[T]]) -> T:
        try:
            return await attempt(self._connected())
        except Exception as error:
            if not self._attempts.is_sound(error):
                self.close()
            raise

    def _connected(self) -> BlockingConnection:
        if self._connection is None or not self._connection.is_usable:
            connection = self._driver.connect(self._read_only, self._waits_for_locks)
            self._connection = BlockingConnection(connection)
        return self._connection


def finish(work: Coroutine[object, None, T]) -> T:
    """Run the coroutine to its end at once."""
    try:
        work.send(None)
    except StopIteration as end:
        return cast(T, end.value)
    work.close()
    raise RuntimeError("A database transaction awaited something that is not its own statement")
