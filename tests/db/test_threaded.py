"""The thread driver: what it runs, repeats, refuses, and how it ends."""

import sqlite3
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
import sqlalchemy as sa
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, gatherResults, succeed
from twisted.internet.interfaces import IReactorFromThreads

from imgservice.db.database import RETRY_PAUSES, Fault, Rows, Transaction, UniqueViolation
from imgservice.db.sqlite import Sqlite
from imgservice.db.statement import Statement
from imgservice.db.threaded import ThreadedDatabase
from imgservice.domain.errors import Unavailable

numbers = sa.Table(
    "numbers",
    sa.MetaData(),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("text", sa.Text, nullable=False),
)
ADD = Statement(sa.insert(numbers).values(number=sa.bindparam("number"), text=sa.bindparam("text")))
ALL = Statement(sa.select(numbers.c.number).order_by(numbers.c.number))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "numbers.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE numbers (number INTEGER PRIMARY KEY, text TEXT NOT NULL)")
    connection.close()
    return path


Open = Callable[..., ThreadedDatabase]


@pytest_twisted.async_yield_fixture
async def open_driver() -> AsyncIterator[Open]:
    """Open a database with any driver; it is closed after the test."""
    opened: list[ThreadedDatabase] = []

    def open_driver(driver: Sqlite, **options: Any) -> ThreadedDatabase:
        opened.append(ThreadedDatabase(driver, 2, IReactorFromThreads(reactor), **options))
        return opened[-1]

    yield open_driver
    for database in opened:
        await database.close()


@pytest.fixture
def database(path: Path, open_driver: Open) -> ThreadedDatabase:
    return open_driver(Sqlite(path))


async def add(transaction: Transaction, *values: int) -> int:
    for value in values:
        await transaction.execute(ADD, {"number": value, "text": "x"})
    return sum(values)


def add_in(database: ThreadedDatabase, *values: int) -> Deferred[int]:
    return Deferred.fromCoroutine(database.run(lambda transaction: add(transaction, *values)))


async def present(database: ThreadedDatabase) -> list[int]:
    return await database.fetch(ALL, {}, lambda found: [number for (number,) in found.rows])


@pytest_twisted.ensureDeferred
async def test_a_transaction_returns_what_its_function_returns(database: ThreadedDatabase) -> None:
    assert await add_in(database, 1, 2) == 3
    assert await present(database) == [1, 2]


@pytest_twisted.ensureDeferred
async def test_results_are_plain_rows_and_a_count(database: ThreadedDatabase) -> None:
    await add_in(database, 1, 2, 3)
    change = Statement(sa.update(numbers).where(numbers.c.number > 1).values(text="y"))

    async def work(transaction: Transaction) -> tuple[Rows, Rows]:
        return await transaction.execute(change, {}), await transaction.execute(ALL, {})

    assert await database.run(work) == (Rows((), 2), Rows([(1,), (2,), (3,)], -1))


@pytest_twisted.ensureDeferred
async def test_an_error_undoes_the_whole_transaction(database: ThreadedDatabase) -> None:
    async def work(transaction: Transaction) -> None:
        await add(transaction, 1)
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        await database.run(work)
    assert await present(database) == []


@pytest_twisted.ensureDeferred
async def test_unique_keys_have_an_error_of_their_own(database: ThreadedDatabase) -> None:
    with pytest.raises(UniqueViolation):
        await add_in(database, 1, 2, 1)
    assert await present(database) == []

    async def twice(transaction: Transaction) -> None:
        await transaction.execute_many(ADD, [{"number": 5, "text": "x"}] * 2)

    with pytest.raises(UniqueViolation):
        await database.run(twice)

    async def nothing(transaction: Transaction) -> None:
        await transaction.execute(ADD, {"number": 1, "text": None})

    with pytest.raises(sqlite3.IntegrityError, match="NOT NULL"):
        await database.run(nothing)
    assert await present(database) == []


@pytest_twisted.ensureDeferred
async def test_a_transaction_awaits_nothing_else(database: ThreadedDatabase) -> None:
    async def work(transaction: Transaction) -> None:
        await add(transaction, 1)
        await Deferred()

    with pytest.raises(RuntimeError, match="awaited something"):
        await database.run(work)
    assert await present(database) == []

    async def ready(transaction: Transaction) -> None:
        await add(transaction, 1)
        await succeed(None)

    await database.run(ready)  # never suspends, so it does no harm
    assert await present(database) == [1]


@pytest_twisted.ensureDeferred
async def test_a_transaction_is_of_no_use_after_its_end(database: ThreadedDatabase) -> None:
    kept: list[Transaction] = []

    async def work(transaction: Transaction) -> None:
        kept.append(transaction)

    await database.run(work)
    with pytest.raises(RuntimeError, match="has ended"):
        await kept[0].execute(ALL, {})


@pytest_twisted.ensureDeferred
async def test_a_missing_parameter_is_named(database: ThreadedDatabase) -> None:
    with pytest.raises(KeyError, match="text"):
        await database.run(lambda transaction: transaction.execute(ADD, {"number": 1}))


@pytest_twisted.ensureDeferred
async def test_reads_cannot_write(database: ThreadedDatabase) -> None:
    with pytest.raises(Unavailable):
        await database.read(lambda transaction: add(transaction, 1))
    assert await present(database) == []


@pytest_twisted.ensureDeferred
async def test_a_read_sees_one_moment(path: Path, database: ThreadedDatabase) -> None:
    async def work(transaction: Transaction) -> list[int]:
        counts = [len((await transaction.execute(ALL, {})).rows)]
        other = sqlite3.connect(path)
        with other:
            other.execute("INSERT INTO numbers VALUES (1, 'x')")
        other.close()
        return [*counts, len((await transaction.execute(ALL, {})).rows)]

    assert await database.read(work) == [0, 0]
    assert await present(database) == [1]


@pytest_twisted.ensureDeferred
async def test_many_writers_wait_in_order(path: Path, open_driver: Open) -> None:
    pauses: list[float] = []
    database = open_driver(Sqlite(path), pause=pauses.append)
    order: list[int] = []

    async def work(transaction: Transaction, number: int) -> None:
        order.append(number)
        await add(transaction, number)

    def start(number: int) -> Deferred[None]:
        return Deferred.fromCoroutine(database.run(lambda transaction: work(transaction, number)))

    await gatherResults([start(number) for number in range(200)])
    assert order == list(range(200)) == await present(database)
    assert pauses == []


@pytest_twisted.ensureDeferred
async def test_a_writer_keeps_others_out_from_its_beginning(
    path: Path, database: ThreadedDatabase
) -> None:
    async def work(transaction: Transaction) -> int:
        before = len((await transaction.execute(ALL, {})).rows)
        other = sqlite3.connect(path, timeout=0, isolation_level=None)
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            other.execute("INSERT INTO numbers VALUES (1, 'x')")
        other.close()
        return await add(transaction, before + 7)

    assert await database.run(work) == 7
    assert await present(database) == [7]


@pytest.fixture
def busy(path: Path) -> Any:
    """A connection of somebody else who is writing."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("BEGIN IMMEDIATE")
    yield connection
    connection.close()


@pytest_twisted.ensureDeferred
async def test_a_busy_database_is_tried_again(
    path: Path, open_driver: Open, busy: sqlite3.Connection
) -> None:
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            busy.execute("COMMIT")

    database = open_driver(Sqlite(path, busy_timeout=0.01), pause=pause)
    assert await add_in(database, 1) == 1
    assert len(pauses) == 3
    assert all(0 < each <= longest for each, longest in zip(pauses, RETRY_PAUSES, strict=False))
    assert await present(database) == [1]


@pytest_twisted.ensureDeferred
async def test_a_database_that_stays_busy_is_unavailable(
    path: Path, open_driver: Open, busy: sqlite3.Connection
) -> None:
    pauses: list[float] = []
    database = open_driver(Sqlite(path, busy_timeout=0.01), pause=pauses.append)
    with pytest.raises(Unavailable) as raised:
        await add_in(database, 1)
    assert isinstance(raised.value.__cause__, sqlite3.OperationalError)
    assert len(pauses) == len(RETRY_PAUSES)
    assert await present(database) == []  # readers never wait for a writer

    busy.execute("ROLLBACK")
    assert await add_in(database, 1) == 1


class Lossy(Sqlite):
    """A server to which every connection is lost at a given statement, so many times."""

    def __init__(self, path: Path, at: str, times: int) -> None:
        super().__init__(path)
        self.at = at
        self.times = times
        self.connections = 0

    def connect(self, read_only: bool, patient: bool = True) -> Any:
        self.connections += 1
        return LossyConnection(self, super().connect(read_only, patient))

    def fault(self, error: Exception) -> Fault | None:
        return Fault.LOST if isinstance(error, ConnectionError) else super().fault(error)


class LossyConnection:
    def __init__(self, driver: Lossy, connection: sqlite3.Connection) -> None:
        self._driver = driver
        self._connection = connection

    def cursor(self) -> Any:
        return LossyCursor(self._driver, self._connection)

    def close(self) -> None:
        self._connection.close()


class LossyCursor(sqlite3.Cursor):
    def __init__(self, driver: Lossy, connection: sqlite3.Connection) -> None:
        super().__init__(connection)
        self._driver = driver

    def execute(self, sql: str, values: Any = ()) -> Any:
        if self._driver.times and sql.startswith(self._driver.at):
            self._driver.times -= 1
            self.connection.close()
            raise ConnectionError("lost")
        return super().execute(sql, values)


@pytest.mark.parametrize("at", ["BEGIN", "INSERT", "SELECT"])
@pytest_twisted.ensureDeferred
async def test_a_lost_connection_is_made_again(path: Path, open_driver: Open, at: str) -> None:
    driver = Lossy(path, at, times=2)
    database = open_driver(driver, pause=lambda seconds: None)
    assert await add_in(database, 1) == 1
    assert await present(database) == [1]
    assert driver.times == 0
    assert driver.connections == 4  # one to write and one to read, and two that were lost


@pytest_twisted.ensureDeferred
async def test_a_lost_commit_is_not_repeated(path: Path, open_driver: Open) -> None:
    database = open_driver(Lossy(path, "COMMIT", times=1), pause=lambda seconds: None)
    with pytest.raises(Unavailable, match="during a commit"):
        await add_in(database, 1)
    assert await add_in(database, 2) == 2
    assert await present(database) == [2]


async def looked_up(database: ThreadedDatabase) -> tuple[list[int], str]:
    """Return what is there by `lookup`, and the thread in which it was found."""
    threads: list[str] = []

    def numbers(found: Rows) -> list[int]:
        threads.append(threading.current_thread().name)
        return [number for number, *_ in found.rows]

    return await database.lookup(ALL, {}, numbers), threads[0]


@pytest_twisted.ensureDeferred
async def test_a_lookup_in_an_embedded_database_stays_in_its_thread(
    path: Path, open_driver: Open
) -> None:
    database = open_driver(Sqlite(path))
    await add_in(database, 1)
    assert await looked_up(database) == ([1], threading.current_thread().name)


@pytest_twisted.ensureDeferred
async def test_a_lookup_that_fails_at_once_is_left_to_a_thread(
    path: Path, open_driver: Open
) -> None:
    driver = Lossy(path, "SELECT", times=1)
    database = open_driver(driver, pause=pytest.fail)
    await add_in(database, 1)
    found, thread = await looked_up(database)
    assert found == [1]
    assert thread != threading.current_thread().name
    assert (await looked_up(database))[1] == threading.current_thread().name


class Small(Sqlite):
    """A database on a device without room."""

    def connect(self, read_only: bool, patient: bool = True) -> sqlite3.Connection:
        connection = super().connect(read_only, patient)
        connection.execute("PRAGMA max_page_count = 2")
        return connection


@pytest_twisted.ensureDeferred
async def test_a_full_device(path: Path, open_driver: Open) -> None:
    database = open_driver(Small(path), pause=pytest.fail)
    large = {"number": 1, "text": "x" * 100_000}
    with pytest.raises(Unavailable):
        await database.run(lambda transaction: transaction.execute(ADD, large))
    assert await present(database) == []
    assert await add_in(database, 2) == 2


@pytest_twisted.ensureDeferred
async def test_a_file_that_is_not_there_is_not_made(tmp_path: Path, open_driver: Open) -> None:
    database = open_driver(Sqlite(tmp_path / "missing.db"), pause=pytest.fail)
    with pytest.raises(Unavailable):
        await add_in(database, 1)
    with pytest.raises(Unavailable):
        await present(database)
    assert list(tmp_path.iterdir()) == []


@pytest_twisted.ensureDeferred
async def test_cancelled_work_that_has_not_begun_never_does(database: ThreadedDatabase) -> None:
    begun, go_on = threading.Event(), threading.Event()

    async def slow(transaction: Transaction) -> None:
        begun.set()
        go_on.wait(10)
        await add(transaction, 1)

    running = Deferred.fromCoroutine(database.run(slow))
    waiting = add_in(database, 2)
    assert begun.wait(10)
    for each in (running, waiting):
        each.cancel()
        with pytest.raises(CancelledError):
            await each
    go_on.set()
    await add_in(database, 3)
    assert await present(database) == [1, 3]


@pytest_twisted.ensureDeferred
async def test_closing_lets_running_work_end(path: Path) -> None:
    before = set(threading.enumerate())
    database = ThreadedDatabase(Sqlite(path), 2, IReactorFromThreads(reactor))
    assert set(threading.enumerate()) == before  # a daemon forks between opening and working
    started = [add_in(database, number) for number in range(20)]
    reading = Deferred.fromCoroutine(present(database))
    threads = set(threading.enumerate()) - before
    await database.close()
    assert set(await reading) <= set(range(20))
    assert await gatherResults(started) == list(range(20))
    for call in (add_in(database, 99), Deferred.fromCoroutine(present(database))):
        with pytest.raises(Unavailable, match="closed"):
            await call
    await database.close()
    assert len(threads) == 3
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()
    assert list(path.parent.iterdir()) == [path]  # the last connection took the journal with it
