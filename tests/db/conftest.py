"""A table of numbers on SQLite, PostgreSQL and MariaDB, empty at the beginning of each test."""

import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
import sqlalchemy as sa

from imgservice.db.engine.database import Database
from imgservice.db.engine.open import DatabaseLimits, open_database
from imgservice.db.engine.pool import PoolLimits
from tests.db.numbers import Line, Place, on_server, reactor
from tests.servers import Server

Open = Callable[..., Database]


@pytest.fixture
def numbers_file(tmp_path: Path) -> Path:
    """A database of SQLite with the table."""
    path = tmp_path / "numbers.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE numbers (number INTEGER PRIMARY KEY, text TEXT NOT NULL)")
    return path


@pytest.fixture
def sqlite_numbers(numbers_file: Path) -> Iterator[Place]:
    url = f"sqlite:///{numbers_file}"
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    yield Place("sqlite", url, engine)
    engine.dispose()


@pytest.fixture(scope="session")
def postgresql_place(postgresql: Server) -> Iterator[Place]:
    with on_server("postgresql", postgresql, "numbers") as place:
        yield place


@pytest.fixture(scope="session")
def mariadb_place(mariadb: Server) -> Iterator[Place]:
    with on_server("mariadb", mariadb, "numbers") as place:
        yield place


@pytest.fixture
def postgresql_numbers(postgresql_place: Place) -> Place:
    postgresql_place.outside("DELETE FROM numbers")
    return postgresql_place


@pytest.fixture
def mariadb_numbers(mariadb_place: Place) -> Place:
    mariadb_place.outside("DELETE FROM numbers")
    return mariadb_place


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def place(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(f"{request.param}_numbers")


@pytest_twisted.async_yield_fixture
async def opened(place: Place) -> AsyncIterator[Open]:
    """Open the database as the service does; it is closed after the test.

    It has one connection unless told otherwise, and may be looked for at another host or port.
    """
    databases: list[Database] = []

    def open_one(
        host: str | None = None, port: int | None = None, connections: int = 1, **limits: Any
    ) -> Database:
        url = sa.make_url(place.url).set(host=host, port=port)
        pool = PoolLimits(connections=connections, **limits)
        databases.append(open_database(str(url), DatabaseLimits(connections, pool), reactor))
        return databases[-1]

    yield open_one
    for database in databases:
        await database.close()


@pytest.fixture
def database(opened: Open) -> Database:
    return opened()


@pytest_twisted.async_yield_fixture
async def line(place: Place) -> AsyncIterator[tuple[Line, int]]:
    """A way to the server that a test may cut, and its port."""
    line = Line(sa.make_url(place.url).port or 0)
    listening = reactor.listenTCP(0, line, interface="127.0.0.1")
    yield line, listening.getHost().port
    await listening.stopListening()
