"""The database driver for blocking DBAPI modules: transactions run in threads of their own."""

import threading
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from queue import SimpleQueue
from time import sleep
from typing import Any, Protocol, TypeVar, cast

from sqlalchemy import Dialect
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads
from twisted.python.failure import Failure

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
from imgservice.db.engine.statement import Parameters, Row, Statement
from imgservice.domain.errors import Unavailable

T = TypeVar("T")

_UNAVAILABLE = "The database is not available."


class Cursor(Protocol):
    """The part of a DBAPI cursor that is used here."""

    @property
    def rowcount(self) -> int: ...
    @property
    def description(self) -> Any: ...
    def execute(self, sql: str, values: Sequence[Any] = ..., /) -> Any: ...
    def executemany(self, sql: str, values: Sequence[Sequence[Any]], /) -> Any: ...
    def fetchall(self) -> Sequence[Row]: ...


class Connection(Protocol):
    """The part of a DBAPI connection that is used here; it leaves transactions to us."""

    def cursor(self) -> Cursor: ...
    def close(self) -> None: ...


class Driver(Protocol):
    """What the thread driver must know about one kind of database."""

    @property
    def dialect(self) -> Dialect: ...
    @property
    def one_writer(self) -> bool:
        """Whether only one transaction at a time can write."""

    @property
    def is_embedded(self) -> bool:
        """Whether a read by key takes microseconds, because no other process has to answer."""

    @property
    def begin_read(self) -> str:
        """What begins a transaction that only reads, from one snapshot; commands between ;."""

    @property
    def begin_write(self) -> str: ...

    def connect(self, read_only: bool, patient: bool = True) -> Connection:
        """Connect; one that is not patient fails at once where another would wait for a lock."""

    def fault(self, error: Exception) -> Fault | None:
        """Tell what the error means; None when it is not the database's."""


class ThreadTransaction:
    """A transaction in the thread that owns its connection: its coroutines never suspend."""

    def __init__(self, connection: Connection, driver: Driver) -> None:
        self._connection = connection
        self._driver = driver
        self._ended = False

    async def execute(self, statement: Statement, parameters: Parameters) -> Rows:
        compiled = statement.compiled(self._driver.dialect)
        cursor = self._cursor()
        self._guarded(cursor.execute, compiled.sql, compiled.values(parameters))
        raw = cursor.fetchall() if cursor.description else ()
        return Rows(compiled.rows(raw), cursor.rowcount)

    async def execute_many(self, statement: Statement, parameters: Sequence[Parameters]) -> None:
        if parameters:
            compiled = statement.compiled(self._driver.dialect)
            values = [compiled.values(each) for each in parameters]
            self._guarded(self._cursor().executemany, compiled.sql, values)

    def end(self) -> None:
        self._ended = True

    def _cursor(self) -> Cursor:
        if self._ended:
            raise RuntimeError("The transaction has ended")
        return self._connection.cursor()

    def _guarded(
        self, execute: Callable[[str, Sequence[Any]], object], sql: str, values: Any
    ) -> None:
        try:
            execute(sql, values)
        except Exception as error:
            if self._driver.fault(error) is Fault.UNIQUE:
                raise UniqueViolation(str(error)) from error
            raise


class Session:
    """One thread's connection: opened at its first use, and again after it was lost."""

    def __init__(
        self,
        driver: Driver,
        read_only: bool,
        pause: Callable[[float], object],
        patient: bool = True,
        tell: Tell = told_nobody,
    ) -> None:
        self._driver = driver
        self._read_only = read_only
        self._pause = pause
        self._patient = patient
        self._tell = tell
        self._connection: Connection | None = None

    def transact(self, begin: str, work: Work[T]) -> T:
        return self._repeat(lambda: self._transact(begin, work))

    def fetch(
        self, statement: Statement, parameters: Parameters, convert: Callable[[Rows], T]
    ) -> T:
        return self._repeat(lambda: convert(self._fetch(statement, parameters)))

    def fetch_at_once(self, statement: Statement, parameters: Parameters) -> Rows | None:
        """Try once, and return None when the database cannot answer now."""
        try:
            return self._fetch(statement, parameters)
        except Exception as error:
            if self._driver.fault(error) is None:
                raise
            self.close()
            return None

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _connected(self) -> Connection:
        if self._connection is None:
            self._connection = self._driver.connect(self._read_only, self._patient)
        return self._connection

    def _repeat(self, attempt: Callable[[], T]) -> T:
        pauses = iter(RETRY_PAUSES)
        while True:
            try:
                return attempt()
            except Exception as error:
                self._retryable(error)
                pause = next(pauses, None)
                if pause is None:
                    raise self._unavailable(error) from error
            self._pause(jittered(pause))

    def _retryable(self, error: Exception) -> None:
        """Return when trying again makes sense; otherwise raise what the caller shall see."""
        fault = self._driver.fault(error)
        if fault is None or fault is Fault.UNIQUE:
            raise error
        if fault is not Fault.AGAIN:
            self.close()
        if fault is Fault.BROKEN:
            raise self._unavailable(error) from error

    def _unavailable(self, error: BaseException) -> Unavailable:
        self._tell(reason_of(error))
        return Unavailable(_UNAVAILABLE)

    def _fetch(self, statement: Statement, parameters: Parameters) -> Rows:
        compiled = statement.compiled(self._driver.dialect)
        cursor = self._connected().cursor()
        cursor.execute(compiled.sql, compiled.values(parameters))
        return Rows(compiled.rows(cursor.fetchall()), cursor.rowcount)

    def _transact(self, begin: str, work: Work[T]) -> T:
        connection = self._connected()
        for command in begin.split(";"):
            connection.cursor().execute(command)
        transaction = ThreadTransaction(connection, self._driver)
        try:
            value = finish(work(transaction))
        except BaseException:
            self._roll_back(connection)
            raise
        finally:
            transaction.end()
        self._commit(connection)
        return value

    def _commit(self, connection: Connection) -> None:
        try:
            connection.cursor().execute("COMMIT")
        except Exception as error:
            if self._driver.fault(error) is Fault.LOST:
                # It may have happened or not: a second run could do everything twice.
                self.close()
                self._tell(reason_of(error))
                raise Unavailable("The database went away during a commit.") from error
            self._roll_back(connection)
            raise

    def _roll_back(self, connection: Connection) -> None:
        try:
            connection.cursor().execute("ROLLBACK")
        except Exception:
            self.close()  # which rolls back too


def finish(work: Coroutine[Any, Any, T]) -> T:
    """Run the coroutine to its end at once."""
    try:
        work.send(None)
    except StopIteration as end:
        return cast(T, end.value)
    work.close()
    raise RuntimeError("A database transaction awaited something that is not its own statement")


Job = tuple[Deferred[Any], Callable[[Session], object]]


class Completions:
    """Carries results from threads to the reactor, many with one wake-up."""

    def __init__(self, reactor: IReactorFromThreads) -> None:
        self._reactor = reactor
        self._done: deque[tuple[Deferred[Any], object]] = deque()
        self._woken = False

    def add(self, waiting: Deferred[Any], result: object) -> None:
        """Fire `waiting` in the reactor's thread; a Failure becomes its error."""
        self._done.append((waiting, result))
        # Two threads may both wake the reactor: that is harmless. None may rely on a wake-up
        # that is already being served: `_deliver` takes the flag back before it looks.
        if not self._woken:
            self._woken = True
            self._reactor.callFromThread(self._deliver)

    def _deliver(self) -> None:
        self._woken = False
        while self._done:
            waiting, result = self._done.popleft()
            waiting.callback(result)  # a cancelled Deferred ignores this


class ConnectionThreads:
    """Threads that share one queue, each with a session of its own."""

    def __init__(self, sessions: Sequence[Session], completions: Completions, name: str) -> None:
        self._queue: SimpleQueue[Job | None] = SimpleQueue()
        self._sessions = sessions
        self._completions = completions
        self._name = name
        self._ended: list[Deferred[None]] = []

    def submit(self, work: Callable[[Session], T]) -> Deferred[T]:
        if not self._ended:
            self._start()
        waiting: Deferred[T] = Deferred()
        self._queue.put((waiting, work))
        return waiting

    def _start(self) -> None:
        """Start the threads; not before there is work, because a daemon forks and leaves them."""
        self._ended = [Deferred() for _ in self._sessions]
        for number, arguments in enumerate(zip(self._sessions, self._ended, strict=True)):
            name = f"{self._name}-{number}"
            threading.Thread(target=self._serve, args=arguments, name=name, daemon=True).start()

    async def close(self) -> None:
        for _ in self._ended:
            self._queue.put(None)
        for ended in self._ended:
            await ended

    def _serve(self, session: Session, ended: Deferred[None]) -> None:
        while job := self._queue.get():
            waiting, work = job
            if not waiting.called:  # nobody cancelled it in the meantime
                self._completions.add(waiting, _outcome(work, session))
            del job, waiting, work  # or the last result would live as long as the thread waits
        session.close()
        self._completions.add(ended, None)


def _outcome(work: Callable[[Session], object], session: Session) -> object:
    try:
        return work(session)
    except BaseException:
        return Failure()  # type: ignore[no-untyped-call]


class ThreadedDatabase:
    """A `Database` of which every transaction is one hop to a thread and back."""

    def __init__(
        self,
        driver: Driver,
        threads: int,
        reactor: IReactorFromThreads,
        pause: Callable[[float], object] = sleep,
        tell: Tell = told_nobody,
    ) -> None:
        self._driver = driver
        self._closed = False
        self._here = Session(driver, True, pause, patient=False) if driver.is_embedded else None
        completions = Completions(reactor)

        def crew(size: int, read_only: bool, name: str) -> ConnectionThreads:
            sessions = [Session(driver, read_only, pause, tell=tell) for _ in range(size)]
            return ConnectionThreads(sessions, completions, name)

        if driver.one_writer:
            # Our writers queue here, in order, instead of fighting for the database's lock.
            self._writers = crew(1, False, "database-writer")
            self._readers = crew(threads, True, "database-reader")
        else:
            self._writers = self._readers = crew(threads, False, "database")

    async def run(self, work: Work[T]) -> T:
        begin = self._driver.begin_write
        return await self._open(self._writers).submit(lambda session: session.transact(begin, work))

    async def read(self, work: Work[T]) -> T:
        begin = self._driver.begin_read
        return await self._open(self._readers).submit(lambda session: session.transact(begin, work))

    async def fetch(
        self, statement: Statement, parameters: Parameters, convert: Callable[[Rows], T]
    ) -> T:
        return await self._open(self._readers).submit(
            lambda session: session.fetch(statement, parameters, convert)
        )

    async def lookup(
        self, statement: Statement, parameters: Parameters, convert: Callable[[Rows], T]
    ) -> T:
        if self._here is not None and not self._closed:
            found = self._here.fetch_at_once(statement, parameters)
            if found is not None:
                return convert(found)
        return await self.fetch(statement, parameters, convert)

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            if self._here is not None:
                self._here.close()
            for crew in {self._writers, self._readers}:
                await crew.close()

    def _open(self, crew: ConnectionThreads) -> ConnectionThreads:
        if self._closed:
            raise Unavailable("The database is closed.")
        return crew
