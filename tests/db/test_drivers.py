"""What both drivers promise: transactions, what undoes them, what is repeated, and the end."""

import threading
from typing import Any

import pymysql
import pytest
import pytest_twisted
import sqlalchemy as sa
from twisted.internet.defer import CancelledError, gatherResults

from imgservice.db.engine.database import Database, Rows, Transaction, UniqueViolation
from imgservice.db.engine.statement import Statement
from imgservice.domain.errors import Unavailable
from tests.db.conftest import Open
from tests.db.numbers import (
    ADD,
    ALL,
    CHANGE,
    Line,
    Place,
    add,
    add_all,
    number_of_connection,
    numbers,
    present,
    started,
    until,
)

on_servers = pytest.mark.parametrize("place", ["postgresql", "mariadb"], indirect=True)


@pytest_twisted.ensureDeferred
async def test_a_transaction_returns_what_its_function_returns(database: Database) -> None:
    assert await database.run(lambda transaction: add_all(transaction, 1, 2)) == 3
    assert await present(database) == [1, 2]


@pytest_twisted.ensureDeferred
async def test_results_are_plain_rows_and_a_count(database: Database) -> None:
    await database.run(lambda transaction: add_all(transaction, 1, 2, 3))
    change = Statement(sa.update(numbers).where(numbers.c.number > 1).values(text="y"))

    async def work(transaction: Transaction) -> tuple[Rows, Rows]:
        return await transaction.execute(change, {}), await transaction.execute(ALL, {})

    changed, found = await database.run(work)
    assert changed == Rows((), 2)
    assert list(found.rows) == [(1,), (2,), (3,)]


@pytest_twisted.ensureDeferred
async def test_many_values_in_one_go(database: Database) -> None:
    values = [{"number": number, "text": "x" * number} for number in range(500)]
    await database.run(lambda transaction: transaction.execute_many(ADD, values))
    assert await present(database) == list(range(500))
    await database.run(lambda transaction: transaction.execute_many(ADD, []))
    assert await present(database) == list(range(500))


@pytest_twisted.ensureDeferred
async def test_an_error_undoes_the_whole_transaction(database: Database) -> None:
    async def work(transaction: Transaction) -> None:
        await add_all(transaction, 1)
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        await database.run(work)
    assert await present(database) == []
    await add(database, 1)
    assert await present(database) == [1]


@pytest_twisted.ensureDeferred
async def test_unique_keys_have_an_error_of_their_own(database: Database) -> None:
    with pytest.raises(UniqueViolation):
        await database.run(lambda transaction: add_all(transaction, 1, 2, 1))
    assert await present(database) == []

    with pytest.raises(UniqueViolation):
        await database.run(
            lambda transaction: transaction.execute_many(ADD, [{"number": 5, "text": "x"}] * 2)
        )

    nothing: Any = {"number": 1, "text": None}
    with pytest.raises(Exception, match=r"(?i)null") as raised:
        await database.run(lambda transaction: transaction.execute(ADD, nothing))
    assert not isinstance(raised.value, UniqueViolation | Unavailable)
    await add(database, 3)
    assert await present(database) == [3]


@pytest_twisted.ensureDeferred
async def test_a_transaction_is_of_no_use_after_its_end(database: Database) -> None:
    kept: list[Transaction] = []

    async def work(transaction: Transaction) -> None:
        kept.append(transaction)

    await database.run(work)
    with pytest.raises(RuntimeError, match="has ended"):
        await kept[0].execute(ALL, {})


@pytest_twisted.ensureDeferred
async def test_a_missing_parameter_is_named(database: Database) -> None:
    with pytest.raises(KeyError, match="text"):
        await database.run(lambda transaction: transaction.execute(ADD, {"number": 1}))
    assert await present(database) == []


@pytest_twisted.ensureDeferred
async def test_reads_cannot_write(database: Database) -> None:
    with pytest.raises((Unavailable, pymysql.MySQLError), match=r"(?i)available|read.only"):
        await database.read(lambda transaction: add_all(transaction, 1))
    assert await present(database) == []


@pytest_twisted.ensureDeferred
async def test_a_read_sees_one_moment(place: Place, database: Database) -> None:
    async def work(transaction: Transaction) -> list[int]:
        counts = [len((await transaction.execute(ALL, {})).rows)]
        place.outside("INSERT INTO numbers VALUES (1, 'x')")
        return [*counts, len((await transaction.execute(ALL, {})).rows)]

    assert await database.read(work) == [0, 0]
    assert await present(database) == [1]


@pytest_twisted.ensureDeferred
async def test_cancelling_what_waits_stops_it(place: Place, database: Database) -> None:
    with place.held(1):
        first, second = started(add(database, 1)), started(add(database, 2))
        second.cancel()
        with pytest.raises(CancelledError):
            await second
    await first
    await add(database, 3)
    assert await present(database) == [1, 3]


@on_servers
@pytest_twisted.ensureDeferred
async def test_cancelling_what_has_begun_lets_it_end(place: Place, database: Database) -> None:
    begun = threading.Event()

    async def work(transaction: Transaction) -> int:
        begun.set()
        return await add_all(transaction, 1)

    with place.held(1):
        running = started(database.run(work))
        await until(begun.is_set)
        running.cancel()
        with pytest.raises(CancelledError):
            await running
    await add(database, 2)
    assert await present(database) == [1, 2]


@pytest_twisted.ensureDeferred
async def test_closing_waits_for_what_runs(place: Place, opened: Open) -> None:
    database = opened()
    with place.held(1):
        running = started(add(database, 1))
        closing = started(database.close())
        for late in (add(database, 2), present(database)):
            with pytest.raises(Unavailable, match="closed"):
                await late
        assert not closing.called
    await closing
    await running
    await database.close()
    assert await present(opened()) == [1]


# -- servers that fail ----------------------------------------------------------------------------


@on_servers
@pytest.mark.parametrize("at", ["beginning", "INSERT", "SELECT"])
@pytest_twisted.ensureDeferred
async def test_a_lost_connection_is_made_again(
    place: Place, opened: Open, line: tuple[Line, int], at: str
) -> None:
    beginning = {"postgresql": "BEGIN", "mariadb": "START TRANSACTION"}[place.name]
    database = opened(port=line[1])
    line[0].cut(beginning if at == "beginning" else at, times=2)
    await add(database, 1)
    assert await present(database) == [1]
    assert line[0].times == 0
    assert line[0].connections == 3


@on_servers
@pytest_twisted.ensureDeferred
async def test_a_lost_commit_is_not_repeated(opened: Open, line: tuple[Line, int]) -> None:
    database = opened(port=line[1])
    line[0].cut("COMMIT(?!TED)", times=1)
    with pytest.raises(Unavailable, match="during a commit"):
        await add(database, 1)
    assert line[0].connections == 1
    await add(database, 2)
    assert await present(database) == [2]


@on_servers
@pytest_twisted.ensureDeferred
async def test_an_idle_connection_that_was_ended_is_replaced(
    place: Place, database: Database
) -> None:
    number = await number_of_connection(place, database)
    place.outside(place.kind.kill.format(number))
    assert await number_of_connection(place, database) != number


@on_servers
@pytest_twisted.ensureDeferred
async def test_work_goes_on_when_its_connection_is_ended(place: Place, database: Database) -> None:
    attempts: list[int] = []

    async def work(transaction: Transaction) -> None:
        number = (await transaction.execute(place.kind.who, {})).rows[0][0]
        await add_all(transaction, len(attempts))
        attempts.append(number)
        if len(attempts) == 1:
            await transaction.execute(place.kind.sleep, {"seconds": 30})

    running = started(database.run(work))
    await until(lambda: attempts)
    place.outside(place.kind.kill.format(attempts[0]))
    await running
    assert len(set(attempts)) == len(attempts) == 2
    assert await present(database) == [1]


@on_servers
@pytest_twisted.ensureDeferred
async def test_deadlocks_are_repeated(place: Place, opened: Open) -> None:
    database = opened(connections=2)
    await database.run(lambda transaction: add_all(transaction, 1, 2))
    attempts: list[int] = []

    async def both(first: int, second: int) -> None:
        async def work(transaction: Transaction) -> None:
            await transaction.execute(CHANGE, {"which": first, "to": "x"})
            attempts.append(first)
            while not {1, 2} <= set(attempts):  # both hold what the other one wants
                await transaction.execute(place.kind.sleep, {"seconds": 0.01})
            await transaction.execute(CHANGE, {"which": second, "to": "x"})

        await database.run(work)

    await gatherResults([started(both(1, 2)), started(both(2, 1))])
    assert len(attempts) == 3


@on_servers
@pytest_twisted.ensureDeferred
async def test_a_server_that_restarts(place: Place, database: Database) -> None:
    assert place.server is not None
    await add(database, 1)
    place.server.restart()
    assert await present(database) == [1]
    await add(database, 2)
    assert await present(database) == [1, 2]


@on_servers
@pytest_twisted.ensureDeferred
async def test_a_server_that_is_not_there(opened: Open) -> None:
    gone = opened(port=1)
    with pytest.raises(Unavailable):
        await present(gone)
