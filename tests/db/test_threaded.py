"""The thread driver: its threads, and what only a database in a file does."""

import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import CancelledError, Deferred, gatherResults, succeed

from imgservice.db.engine.database import Rows, Transaction
from imgservice.db.engine.sqlite import Sqlite
from imgservice.db.engine.threaded import ThreadedDatabase
from imgservice.db.engine.transactions import RETRY_PAUSES
from imgservice.domain.errors import Unavailable
from tests.db.numbers import ADD, ALL, add_all, present, reactor, started

Open = Callable[..., ThreadedDatabase]


@pytest_twisted.async_yield_fixture
async def open_driver() -> AsyncIterator[Open]:
    """Open a database with any driver; it is closed after the test."""
    opened: list[ThreadedDatabase] = []

    def open_driver(driver: Sqlite, **options: Any) -> ThreadedDatabase:
        opened.append(ThreadedDatabase(driver, 2, reactor, **options))
        return opened[-1]

    yield open_driver
    for database in opened:
        await database.close()


@pytest.fixture
def path(numbers_file: Path) -> Path:
    return numbers_file


@pytest.fixture
def database(path: Path, open_driver: Open) -> ThreadedDatabase:
    return open_driver(Sqlite(path))


def add_in(database: ThreadedDatabase, *values: int) -> Deferred[int]:
    return started(database.run(lambda transaction: add_all(transaction, *values)))


@pytest_twisted.ensureDeferred
async def test_a_transaction_awaits_nothing_else(database: ThreadedDatabase) -> None:
    async def work(transaction: Transaction) -> None:
        await add_all(transaction, 1)
        await Deferred()

    with pytest.raises(RuntimeError, match="awaited something"):
        await database.run(work)
    assert await present(database) == []

    async def ready(transaction: Transaction) -> None:
        await add_all(transaction, 1)
        await succeed(None)

    await database.run(ready)  # never suspends, so it does no harm
    assert await present(database) == [1]


@pytest_twisted.ensureDeferred
async def test_many_writers_wait_in_order(path: Path, open_driver: Open) -> None:
    pauses: list[float] = []
    database = open_driver(Sqlite(path), pause=pauses.append)
    order: list[int] = []

    async def work(transaction: Transaction, number: int) -> None:
        order.append(number)
        await add_all(transaction, number)

    def start(number: int) -> Deferred[None]:
        return started(database.run(lambda transaction: work(transaction, number)))

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
        return await add_all(transaction, before + 7)

    assert await database.run(work) == 7
    assert await present(database) == [7]


@pytest.fixture
def other(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection of another program."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    with closing(connection):
        yield connection


@pytest.fixture
def busy(other: sqlite3.Connection) -> sqlite3.Connection:
    """A connection of another program that is writing."""
    other.execute("BEGIN IMMEDIATE")
    return other


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
    path: Path, open_driver: Open, other: sqlite3.Connection
) -> None:
    other.execute("INSERT INTO numbers VALUES (1, 'x')")
    other.execute("PRAGMA locking_mode = EXCLUSIVE")
    other.execute("UPDATE numbers SET text = 'y'")
    database = open_driver(Sqlite(path, busy_timeout=0.01), pause=lambda seconds: other.close())
    found, thread = await looked_up(database)
    assert found == [1]
    assert thread != threading.current_thread().name
    assert (await looked_up(database))[1] == threading.current_thread().name


class Small(Sqlite):
    """A database on a device without room."""

    def connect(self, read_only: bool, waits_for_locks: bool = True) -> sqlite3.Connection:
        connection = super().connect(read_only, waits_for_locks)
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
        go_on.wait(60)
        await add_all(transaction, 1)

    running = started(database.run(slow))
    waiting = add_in(database, 2)
    assert begun.wait(60)
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
    database = ThreadedDatabase(Sqlite(path), 2, reactor)
    assert set(threading.enumerate()) == before  # a daemon forks between opening and working
    adding = [add_in(database, number) for number in range(20)]
    reading = started(present(database))
    threads = set(threading.enumerate()) - before
    await database.close()
    assert set(await reading) <= set(range(20))
    assert await gatherResults(adding) == list(range(20))
    for call in (add_in(database, 99), started(present(database))):
        with pytest.raises(Unavailable, match="closed"):
            await call
    await database.close()
    assert len(threads) == 3
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert list(path.parent.iterdir()) == [path]  # the last connection took the journal with it
