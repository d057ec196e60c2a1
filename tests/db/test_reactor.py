"""The reactor's driver on a real PostgreSQL: its pool, and what only connections of its own do."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import pytest_twisted
import sqlalchemy as sa
from twisted.internet.defer import gatherResults

from imgservice.db.engine.database import Database
from imgservice.db.engine.statement import Statement
from imgservice.domain.errors import Unavailable
from tests.db.conftest import Open
from tests.db.numbers import Place, add, number_of_connection, numbers, present, started


@pytest.fixture
def place(postgresql_numbers: Place) -> Place:
    return postgresql_numbers


@contextmanager
def stopped(process: int) -> Iterator[None]:
    """Let the process say nothing while the block runs."""
    os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process, signal.SIGCONT)


def counted(attempts: list[Any]) -> list[object]:
    """Return what will have the failures among the attempts, each of which must be expected."""
    failures: list[object] = []
    for each in attempts:
        each.addErrback(lambda failure: failures.append(failure.trap(Unavailable)))
    return failures


@pytest_twisted.ensureDeferred
async def test_more_than_a_socket_takes_at_once(database: Database) -> None:
    text = "0123456789" * 1_000_000
    await add(database, 1, text)
    read = Statement(sa.select(numbers.c.text))
    assert await database.fetch(read, {}, lambda found: found.rows[0][0]) == text


@pytest_twisted.ensureDeferred
async def test_no_more_connections_than_allowed(place: Place, opened: Open) -> None:
    database = opened(connections=2)
    asked = [started(number_of_connection(place, database)) for _ in range(50)]
    assert len(set(await gatherResults(asked))) <= 2


@pytest_twisted.ensureDeferred
async def test_the_longest_waiting_caller_is_next(database: Database) -> None:
    ended: list[int] = []

    async def one(number: int) -> None:
        await add(database, number)
        ended.append(number)

    await gatherResults([started(one(number)) for number in range(30)])
    assert ended == list(range(30))


@pytest_twisted.ensureDeferred
async def test_waiting_for_a_connection_times_out(place: Place, opened: Open) -> None:
    database = opened(timeout=1)
    assert await present(database) == []  # it is connected now
    with place.held(1):
        first = started(add(database, 1))
        with pytest.raises(Unavailable):
            await present(database)
        assert not first.called
    await first
    assert await present(database) == [1]


@pytest_twisted.ensureDeferred
async def test_the_queue_is_bounded(place: Place, opened: Open) -> None:
    database = opened(waiting=3)
    with place.held(0):
        wanted = [started(add(database, number)) for number in range(6)]
        failures = counted(wanted)
        assert len(failures) == 2
    await gatherResults(wanted)
    assert len(failures) == 2
    assert await present(database) == [0, 1, 2, 3]


@pytest_twisted.ensureDeferred
async def test_many_callers_of_a_server_that_is_not_there(opened: Open) -> None:
    gone = opened(port=1, connections=10)
    wanted = [started(present(gone)) for _ in range(300)]
    failures = counted(wanted)
    await gatherResults(wanted)
    assert len(failures) == 300


@pytest_twisted.ensureDeferred
async def test_a_server_that_does_not_answer(place: Place, opened: Open) -> None:
    database = opened(answer=2)
    with stopped(await number_of_connection(place, database)), pytest.raises(Unavailable):
        await present(database)
    assert await present(opened()) == []


@pytest_twisted.ensureDeferred
async def test_a_host_with_a_name(opened: Open) -> None:
    assert await present(opened(host="localhost")) == []
