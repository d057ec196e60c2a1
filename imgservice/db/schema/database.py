"""Connections to a database whose tables are read, created or administered."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

import sqlalchemy as sa
from sqlalchemy.engine import URL

from imgservice.db.engine.sqlite import connect, open_file
from imgservice.db.engine.url import parse_url, sqlite_path

TIMEOUT = 30.0
"""Seconds to wait for another process that changes the tables of the same database."""
_LOCK = 4_129_387_115
"""The number of the lock under which tables are created."""


class SchemaError(Exception):
    """The database is not one that this service can use, or cannot be opened at all."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class SchemaDatabase(Protocol):
    """A database whose tables are read, created or administered."""

    @property
    def name(self) -> str:
        """What to call it in messages; never with a password."""

    def exists(self) -> bool:
        """Tell whether there is a database to read."""

    def connected(self) -> AbstractContextManager[sa.Connection]: ...

    def alone(self) -> AbstractContextManager[sa.Connection]:
        """Give a connection with a lock that one process at a time can have."""

    def explained(self) -> AbstractContextManager[None]:
        """Turn the errors of the database into a `SchemaError` of one sentence."""


def schema_database(url: str, timeout: float = TIMEOUT) -> SchemaDatabase:
    """Return the database of the URL; `timeout` is the time, in seconds, to wait for SQLite's lock.

    `UrlError` when the URL names no database.
    """
    kind, parsed = parse_url(url)
    if kind == "sqlite":
        return SqliteFile(sqlite_path(url), timeout)
    return ServerDatabase(kind, parsed)


class SqliteFile:
    """A SQLite database, whose file may not exist yet."""

    def __init__(self, path: Path, timeout: float) -> None:
        self.name = str(path)
        self._path = path
        self._timeout = timeout

    def exists(self) -> bool:
        return self._path.exists()

    def connected(self) -> AbstractContextManager[sa.Connection]:
        return self._connected(lambda: open_file(self._path, "rw", self._timeout))

    @contextmanager
    def alone(self) -> Iterator[sa.Connection]:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._connected(lambda: connect(self._path, "rwc", self._timeout)) as connection:
            connection.exec_driver_sql("BEGIN EXCLUSIVE")
            yield connection
            connection.exec_driver_sql("COMMIT")

    @contextmanager
    def _connected(self, opened: Callable[[], sqlite3.Connection]) -> Iterator[sa.Connection]:
        engine = sa.create_engine("sqlite://", creator=opened, poolclass=sa.NullPool)
        with engine.connect() as connection:
            yield connection

    @contextmanager
    def explained(self) -> Iterator[None]:
        try:
            yield
        except (sa.exc.DBAPIError, sqlite3.Error) as error:
            reason = error.orig if isinstance(error, sa.exc.DBAPIError) else error
            raise SchemaError(f"The database {self.name} cannot be used: {reason}.") from error
        except OSError as error:
            what = f"{error.filename}: {error.strerror}"
            raise SchemaError(f"The database {self.name} cannot be used: {what}.") from error


def _check_options(is_postgresql: bool, url: URL) -> None:
    """Raise `UrlError` for options that the driver would reject, or quote with the password."""
    if is_postgresql:
        from imgservice.db.engine.postgresql import check_options

        check_options(url)
    else:
        from imgservice.db.engine.mysql import read_options

        read_options(url.query)


class ServerDatabase:
    """A PostgreSQL or MariaDB database that was created already, perhaps without tables."""

    def __init__(self, kind: str, url: URL) -> None:
        self._is_postgresql = kind == "postgresql"
        driver = "postgresql+psycopg" if self._is_postgresql else "mysql+pymysql"
        _check_options(self._is_postgresql, url)
        self.name = f"{url.host or 'localhost'}/{url.database}"
        self._engine = sa.create_engine(
            url.set(drivername=driver),
            poolclass=sa.NullPool,
            isolation_level="READ COMMITTED",
            connect_args={"connect_timeout": 10},
        )

    def exists(self) -> bool:
        return True

    def connected(self) -> AbstractContextManager[sa.Connection]:
        return self._engine.connect()

    @contextmanager
    def alone(self) -> Iterator[sa.Connection]:
        with self._engine.begin() as connection:
            if self._is_postgresql:
                connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")
            elif not connection.exec_driver_sql(
                f"SELECT GET_LOCK('imgservice.{_LOCK}', {TIMEOUT})"
            ).scalar():
                raise SchemaError("Another process is changing the tables of the database.")
            yield connection  # MariaDB's lock ends with the connection

    @contextmanager
    def explained(self) -> Iterator[None]:
        try:
            yield
        except sa.exc.DBAPIError as error:
            reason = str(error.orig).strip().partition("\n")[0]
            raise SchemaError(f"The database {self.name} cannot be used: {reason}.") from error
