"""The reactor's driver on a real PostgreSQL: its pool, what it repeats, and servers that fail."""

import os
import signal
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_twisted
import sqlalchemy as sa
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.task import deferLater

from imgservice.db.database import Transaction, UniqueViolation
from imgservice.db.postgresql import Postgresql
from imgservice.db.reactor import PoolLimits, ReactorDatabase
from imgservice.db.statement import Statement
from imgservice.db.url import libpq_parameters, parse_url
from imgservice.domain.errors import Unavailable
from tests.servers import Server

numbers = sa.Table(
    "numbers",
    sa.MetaData(),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("text", sa.Text, nullable=False),
)
ADD = Statement(sa.insert(numbers).values(number=sa.bindparam("number"), text=sa.bindparam("text")))
ALL = Statement(sa.select(numbers.c.number).order_by(numbers.c.number))
CHANGE = Statement(
    sa.update(numbers)
    .where(numbers.c.number == sa.bindparam("which"))
    .values(text=sa.bindparam("to"))
)
SLEEP = Statement(sa.select(sa.func.pg_sleep(sa.bindparam("seconds", type_=sa.Float))))
WHO = Statement(sa.select(sa.func.pg_backend_pid()))
KILL = Statement(sa.select(sa.func.pg_terminate_backend(sa.bindparam("pid", type_=sa.Integer))))


@pytest.fixture(scope="module")
def url(postgresql: Server) -> str:
    made = postgresql.create("numbers")
    engine = sa.create_engine(sa.make_url(made).set(drivername="postgresql+psycopg"))
    numbers.metadata.create_all(engine)
    engine.dispose()
    return made


@pytest.fixture(autouse=True)
def nothing_there(url: str) -> None:
    engine = sa.create_engine(sa.make_url(url).set(drivername="postgresql+psycopg"))
    with engine.begin() as connection:
        connection.execute(sa.delete(numbers))
    engine.dispose()


Open = Callable[..., ReactorDatabase]


@pytest_twisted.async_yield_fixture
async def opened(url: str) -> AsyncIterator[Open]:
    """Open a database; it is closed after the test."""
    databases: list[ReactorDatabase] = []

    def open_one(more: str = "", **limits: Any) -> ReactorDatabase:
        driver = Postgresql(libpq_parameters(parse_url(url + more)[1]))
        databases.append(ReactorDatabase(driver, reactor, PoolLimits(**limits)))
        return databases[-1]

    yield open_one
    for database in databases:
        await database.close()


@pytest.fixture
def database(opened: Open) -> ReactorDatabase:
    return opened(connections=2)


def started(coroutine: Any) -> Deferred[Any]:
    return Deferred.fromCoroutine(coroutine)


def after(seconds: float) -> Deferred[None]:
    return deferLater(reactor, seconds, lambda: None)


async def add(database: ReactorDatabase, number: int, text: str = "") -> None:
    await database.run(lambda t: t.execute(ADD, {"number": number, "text": text}))


async def present(database: ReactorDatabase) -> list[int]:
    return list(await database.fetch(ALL, {}, lambda found: [row[0] for row in found.rows]))


async def backend(database: ReactorDatabase) -> int:
    return int(await database.fetch(WHO, {}, lambda found: found.rows[0][0]))


async def sleep(database: ReactorDatabase, seconds: float) -> None:
    await database.fetch(SLEEP, {"seconds": seconds}, lambda found: None)


@pytest_twisted.ensureDeferred
async def test_what_is_written_is_read(database: ReactorDatabase) -> None:
    await add(database, 1)
    await add(database, 2)
    assert await present(database) == [1, 2]


@pytest_twisted.ensureDeferred
async def test_many_values_in_one_go(database: ReactorDatabase) -> None:
    values = [{"number": number, "text": "x" * number} for number in range(500)]
    await database.run(lambda t: t.execute_many(ADD, values))
    assert await present(database) == list(range(500))


@pytest_twisted.ensureDeferred
async def test_more_than_a_socket_takes_at_once(database: ReactorDatabase) -> None:
    text = "0123456789" * 1_000_000
    await add(database, 1, text)
    read = Statement(sa.select(numbers.c.text))
    assert await database.fetch(read, {}, lambda found: found.rows[0][0]) == text


@pytest_twisted.ensureDeferred
async def test_a_unique_key_is_told(database: ReactorDatabase) -> None:
    await add(database, 1)
    with pytest.raises(UniqueViolation):
        await add(database, 1)
    await add(database, 2)
    assert await present(database) == [1, 2]


@pytest_twisted.ensureDeferred
async def test_what_a_transaction_raises_undoes_it(database: ReactorDatabase) -> None:
    async def work(transaction: Transaction) -> None:
        await transaction.execute(ADD, {"number": 1, "text": ""})
        raise KeyError("no")

    with pytest.raises(KeyError):
        await database.run(work)
    assert await present(database) == []


@pytest_twisted.ensureDeferred
async def test_a_reading_transaction_cannot_write(database: ReactorDatabase) -> None:
    with pytest.raises(Unavailable):
        await database.read(lambda t: t.execute(ADD, {"number": 1, "text": ""}))
    assert await present(database) == []


@pytest_twisted.ensureDeferred
async def test_a_transaction_is_over_when_it_is_over(database: ReactorDatabase) -> None:
    kept: list[Transaction] = []

    async def work(transaction: Transaction) -> None:
        kept.append(transaction)

    await database.run(work)
    with pytest.raises(RuntimeError, match="ended"):
        await kept[0].execute(ALL, {})


@pytest_twisted.ensureDeferred
async def test_no_more_connections_than_allowed(database: ReactorDatabase) -> None:
    pids = await gatherResults([started(backend(database)) for _ in range(50)])
    assert len(set(pids)) <= 2


@pytest_twisted.ensureDeferred
async def test_who_has_waited_longest_is_next(opened: Open) -> None:
    database = opened(connections=1)
    ended: list[int] = []

    async def one(number: int) -> None:
        await sleep(database, 0.001)
        ended.append(number)

    await gatherResults([started(one(number)) for number in range(30)])
    assert ended == list(range(30))


@pytest_twisted.ensureDeferred
async def test_patience_ends(opened: Open) -> None:
    database = opened(connections=1, patience=0.2)
    long = started(sleep(database, 1.0))
    with pytest.raises(Unavailable):
        await present(database)
    await long
    assert await present(database) == []


@pytest_twisted.ensureDeferred
async def test_the_queue_has_an_end(opened: Open) -> None:
    database = opened(connections=1, waiting=3)
    wanted = [started(sleep(database, 0.2)) for _ in range(6)]
    failures: list[object] = []
    for each in wanted:
        each.addErrback(lambda failure: failures.append(failure.trap(Unavailable)))
    await gatherResults(wanted)
    assert len(failures) == 2


@pytest_twisted.ensureDeferred
async def test_cancelling_what_waits_stops_it(opened: Open) -> None:
    database = opened(connections=1)
    long = started(sleep(database, 0.3))
    waiting = started(add(database, 1))
    waiting.cancel()
    with pytest.raises(CancelledError):
        await waiting
    await long
    assert await present(database) == []


@pytest_twisted.ensureDeferred
async def test_cancelling_what_has_begun_lets_it_end(opened: Open) -> None:
    database = opened(connections=1)

    async def work(transaction: Transaction) -> None:
        await transaction.execute(SLEEP, {"seconds": 0.2})
        await transaction.execute(ADD, {"number": 1, "text": ""})

    running = started(database.run(work))
    await after(0.1)
    running.cancel()
    with pytest.raises(CancelledError):
        await running
    assert await present(database) == [1]


@pytest_twisted.ensureDeferred
async def test_a_lost_connection_is_replaced(database: ReactorDatabase, opened: Open) -> None:
    admin = opened(connections=1)
    pid = await backend(database)
    await admin.fetch(KILL, {"pid": pid}, lambda found: None)
    assert await backend(database) != pid


@pytest_twisted.ensureDeferred
async def test_work_goes_on_when_its_connection_is_cut(opened: Open) -> None:
    database, admin = opened(connections=1), opened(connections=1)
    attempts: list[int] = []

    async def work(transaction: Transaction) -> None:
        attempts.append(int((await transaction.execute(WHO, {})).rows[0][0]))
        await transaction.execute(ADD, {"number": len(attempts), "text": ""})
        await transaction.execute(SLEEP, {"seconds": 0.3 if len(attempts) == 1 else 0})

    running = started(database.run(work))
    while not attempts:
        await after(0.02)
    await admin.fetch(KILL, {"pid": attempts[0]}, lambda found: None)
    await running
    assert len(attempts) == 2
    assert await present(database) == [2]


@pytest_twisted.ensureDeferred
async def test_deadlocks_are_repeated(opened: Open) -> None:
    database = opened("?options=-c%20deadlock_timeout%3D50ms", connections=2)
    for number in (1, 2):
        await add(database, number)

    async def both(first: int, second: int) -> None:
        async def work(transaction: Transaction) -> None:
            await transaction.execute(CHANGE, {"which": first, "to": "x"})
            await transaction.execute(SLEEP, {"seconds": 0.1})
            await transaction.execute(CHANGE, {"which": second, "to": "x"})

        await database.run(work)

    await gatherResults([started(both(1, 2)), started(both(2, 1))])


@pytest_twisted.ensureDeferred
async def test_a_server_that_restarts(postgresql: Server, database: ReactorDatabase) -> None:
    await add(database, 1)
    postgresql.restart()
    assert await present(database) == [1]
    await add(database, 2)
    assert await present(database) == [1, 2]


@pytest_twisted.ensureDeferred
async def test_a_server_that_is_not_there(opened: Open) -> None:
    gone = ReactorDatabase(
        Postgresql({"host": "127.0.0.1", "port": "1", "dbname": "x"}), reactor, PoolLimits()
    )
    wanted = [started(present(gone)) for _ in range(300)]
    failures: list[object] = []
    for each in wanted:
        each.addErrback(lambda failure: failures.append(failure.trap(Unavailable)))
    await gatherResults(wanted)
    assert len(failures) == 300
    await gone.close()


@pytest_twisted.ensureDeferred
async def test_a_server_that_says_nothing(opened: Open) -> None:
    database = opened(connections=2, answer=0.8)
    pid = await backend(database)
    os.kill(pid, signal.SIGSTOP)
    try:
        with pytest.raises(Unavailable):
            await present(database)
    finally:
        os.kill(pid, signal.SIGCONT)
    assert await present(database) == []


@pytest_twisted.ensureDeferred
async def test_a_host_with_a_name(url: str) -> None:
    parameters = {**libpq_parameters(parse_url(url)[1]), "host": "localhost"}
    named = ReactorDatabase(Postgresql(parameters), reactor, PoolLimits())
    assert await present(named) == []
    await named.close()


@pytest_twisted.ensureDeferred
async def test_closing_waits_for_what_runs(opened: Open) -> None:
    database = opened(connections=1)

    async def work(transaction: Transaction) -> None:
        await transaction.execute(SLEEP, {"seconds": 0.2})
        await transaction.execute(ADD, {"number": 7, "text": ""})

    running = started(database.run(work))
    await after(0.05)
    await database.close()
    await running
    with pytest.raises(Unavailable):
        await present(database)
    assert await present(opened()) == [7]
