"""The database servers whose work is measured beside that of the services."""

import contextlib
import itertools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

import attrs
import pytest
import sqlalchemy as sa

from bench.errors import LeftOut
from tests.servers import Server, mariadb_server, postgresql_server

POSTGRESQL, MARIADB, SQLITE = "postgresql", "mariadb", "sqlite"
# What reaches the disk is left as it is by default: a commit waits for it.
POSTGRESQL_OPTIONS = (
    "-c shared_buffers=512MB",
    "-c shared_preload_libraries=pg_stat_statements",
)
MARIADB_OPTIONS = ("--innodb-buffer-pool-size=512M",)
_COUNTED = sa.text(
    "SELECT coalesce(sum(calls), 0) FROM pg_stat_statements"
    " WHERE dbid <> (SELECT oid FROM pg_database WHERE datname = current_database())"
    # Prepared, these are not counted but the first time.
    " AND query !~ '^(BEGIN|COMMIT|ROLLBACK)'"
)
_COUNTED_BY_MARIADB = sa.text(
    "SELECT sum(variable_value) FROM information_schema.global_status"
    " WHERE variable_name IN ('COM_INSERT', 'COM_UPDATE', 'COM_DELETE')"
    " OR variable_name = 'COM_SELECT'"
)


class DatabaseServer(Protocol):
    """A server of databases, for whoever measures what it does."""

    @property
    def pid(self) -> int:
        """The root of its processes."""

    def statements(self) -> int | None:
        """Return how many it has executed; None when unknown.

        Those that begin and end transactions, and those that ask for the number, do not count.
        """


@attrs.frozen
class Foreign:
    """The server that belongs to the one we compare with: its CPU is all we know of it."""

    pid: int

    def statements(self) -> int | None:
        return None


@attrs.frozen
class Own:
    """A server that was started for the benchmark, with the databases that are made in it."""

    kind: str
    _server: Server
    _count: Callable[[], int]
    _numbers: Iterator[int] = attrs.field(factory=itertools.count, repr=False)

    @property
    def pid(self) -> int:
        return self._server.pid

    def statements(self) -> int | None:
        return self._count()

    def create(self, template: str | None = None) -> str:
        """Make an empty database, or a copy of that with the URL `template`; return its URL."""
        name = f"bench_{next(self._numbers)}"
        if template is None:
            return self._server.create(name)
        original = sa.make_url(template).database
        self._server.create(f"{name} TEMPLATE {original}")
        return self._server.url.format(name)


@contextmanager
def started(kind: str) -> Iterator[Own | None]:
    """Start a server that keeps what it has promised to; None for SQLite, which has none."""
    if kind == SQLITE:
        yield None
        return
    with contextlib.ExitStack() as stack:
        try:
            server = stack.enter_context(_server(kind))
        except (pytest.skip.Exception, pytest.fail.Exception) as reason:
            raise LeftOut(str(reason)) from None
        engine = sa.create_engine(server.admin_url, isolation_level="AUTOCOMMIT")
        stack.callback(engine.dispose)
        connection = stack.enter_context(engine.connect())
        yield Own(kind, server, _counter(kind, connection))


def _server(kind: str) -> AbstractContextManager[Server]:
    if kind == POSTGRESQL:
        return postgresql_server(POSTGRESQL_OPTIONS)
    return mariadb_server(MARIADB_OPTIONS)


def _counter(kind: str, connection: sa.Connection) -> Callable[[], int]:
    if kind == POSTGRESQL:
        connection.execute(sa.text("CREATE EXTENSION pg_stat_statements"))
        return lambda: int(connection.execute(_COUNTED).scalar_one())
    asked = itertools.count(1)
    return lambda: int(connection.execute(_COUNTED_BY_MARIADB).scalar_one()) - next(asked)
