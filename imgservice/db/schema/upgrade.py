"""Bringing a database to the present shape at every start, or refusing it."""

import sqlite3
from collections.abc import Callable, Iterator, Set
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

import attrs
import sqlalchemy as sa
from sqlalchemy.engine import URL

from imgservice.db.engine.sqlite import connect, open_file
from imgservice.db.engine.url import parse_url, sqlite_path
from imgservice.db.schema.tables import (
    GLANCE_EXPANDED,
    GLANCE_REVISION,
    GLANCE_VERSION_TABLE,
    OWN_PREFIX,
    OWN_REVISION,
    OWN_VERSION_TABLE,
    glance_metadata,
)

_MIGRATIONS = Path(__file__).parents[1] / "migrations"
_TIMEOUT = 30.0
"""Seconds to wait for another process that upgrades the same database."""
_LOCK = 4_129_387_115
"""The number of the lock under which tables are created."""


class SchemaError(Exception):
    """The database is not one that this service can use, or cannot be opened at all."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


@attrs.frozen
class State:
    """What a database says of itself."""

    tables: Set[str]
    glance: Set[str]
    """The revisions of Glance's tables."""
    own: Set[str]
    """The revision of ours."""
    unfinished: Set[str] = frozenset()
    """Tables of Glance's, all empty, that a process which was killed has left behind."""

    @property
    def is_present(self) -> bool:
        return bool(self.glance) and self.own == {OWN_REVISION}


def upgrade(url: str) -> None:
    """Create or complete the database; `SchemaError` when it is not ours to touch.

    Glance's tables are created in an empty database, and never changed in any other. Processes may
    do this at the same time; one that is killed leaves the database as it was, or, where creating
    tables cannot be undone, so that the next one goes on.
    """
    place = place_at(url)
    with place.explained():
        if place.exists() and _read_state(place).is_present:
            return
        with place.alone() as connection:
            # Somebody may have been faster.
            _migrate(connection, accepted(_state(connection)))


def check_schema(url: str) -> None:
    """Raise what `upgrade` would raise, changing nothing; an empty database is fine."""
    place = place_at(url)
    with place.explained():
        if place.exists():
            _read_state(place)


def look(url: str) -> State:
    """Return what the database says of itself, whether it can be used or not."""
    place = place_at(url)
    with place.explained():
        if not place.exists():
            return State(tables=frozenset(), glance=frozenset(), own=frozenset())
        with place.connected() as connection:
            return _state(connection)


def ready(url: str, timeout: float = _TIMEOUT) -> "Place":
    """Return the database; `SchemaError` when it is not one in which all tables are present."""
    place = place_at(url, timeout)
    with place.explained():
        if not place.exists():
            raise SchemaError(f"The database {place.name} does not exist yet.")
        if not _read_state(place).is_present:
            raise SchemaError(
                f"The database {place.name} does not have all tables yet:"
                " `imgservice db sync` makes them."
            )
    return place


def _read_state(place: "Place") -> State:
    with place.connected() as connection:
        return accepted(_state(connection))


def _state(connection: sa.Connection) -> State:
    tables = frozenset(sa.inspect(connection).get_table_names())
    glance = _revisions(connection, tables, GLANCE_VERSION_TABLE)
    return State(
        tables=tables,
        glance=glance,
        own=_revisions(connection, tables, OWN_VERSION_TABLE),
        unfinished=_unfinished(connection, tables) if not glance else frozenset(),
    )


def _unfinished(connection: sa.Connection, tables: Set[str]) -> Set[str]:
    """Where creating tables cannot be undone, some may be there and the revision not yet."""
    if connection.dialect.name != "mysql" or GLANCE_VERSION_TABLE not in tables:
        return frozenset()
    ours = {name: table for name, table in glance_metadata.tables.items() if name in tables}
    if any(connection.execute(sa.select(1).select_from(t).limit(1)).first() for t in ours.values()):
        return frozenset()
    return frozenset({*ours, GLANCE_VERSION_TABLE})


def _revisions(connection: sa.Connection, tables: Set[str], version_table: str) -> Set[str]:
    if version_table not in tables:
        return frozenset()
    versions = sa.table(version_table, sa.column("version_num"))
    return frozenset(connection.scalars(sa.select(versions.c.version_num)))


def accepted(state: State) -> State:
    """Return the state, or raise why the database must be left alone."""
    if state.tables - state.unfinished and not state.glance:
        raise SchemaError("The database has tables, but no Glance revision: it is not Glance's.")
    if state.glance and not _is_glance_present(state.glance):
        raise SchemaError(
            f"The database is at Glance revision {' and '.join(sorted(state.glance))}, but this "
            f"service works with {GLANCE_REVISION} only. Bring an older one there with "
            "`glance-manage db sync` of Glance 2024.1 or later."
        )
    ours = {table for table in state.tables if table.startswith(OWN_PREFIX)}
    if (ours or state.own) and state.own != {OWN_REVISION} and not _is_known(state.own):
        raise SchemaError(
            "The tables imgsvc_* are of a revision that this imgservice does not know: "
            f"{' and '.join(sorted(state.own)) or 'none'}."
        )
    return state


def _is_glance_present(revisions: Set[str]) -> bool:
    if GLANCE_EXPANDED in revisions and len(revisions) == 2:
        (other,) = revisions - {GLANCE_EXPANDED}
        return other.endswith("_contract01")
    return revisions == {GLANCE_REVISION}


def _is_known(own: Set[str]) -> bool:
    """Whether our migrations can start from there; Alembic, slow to import, knows."""
    from alembic.script import ScriptDirectory

    known = ScriptDirectory(str(_MIGRATIONS / "own")).walk_revisions()
    return bool(own) and own <= {script.revision for script in known}


def _migrate(connection: sa.Connection, state: State) -> None:
    if not state.glance:
        _run(connection, "glance")
    if state.own != {OWN_REVISION}:
        _run(connection, "own")


def _run(connection: sa.Connection, tree: str) -> None:
    # Alembic is slow to import, and only a database that is not up to date needs it.
    from alembic.command import upgrade as run_migrations
    from alembic.config import Config

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(_MIGRATIONS / tree).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    run_migrations(config, "head")


class Place(Protocol):
    """One kind of database, as far as bringing it to its present shape goes."""

    @property
    def name(self) -> str:
        """What to call it in messages; never with a password."""

    def exists(self) -> bool:
        """Tell whether there is anything to look at."""

    def connected(self) -> AbstractContextManager[sa.Connection]: ...

    def alone(self) -> AbstractContextManager[sa.Connection]:
        """Give a connection while no other process can have one of this kind."""

    def explained(self) -> AbstractContextManager[None]:
        """Turn what the database itself complains about into one plain sentence."""


def place_at(url: str, timeout: float = _TIMEOUT) -> Place:
    """Return the database of the URL; `timeout` is how long, in seconds, SQLite's lock may take.

    `UrlError` when the URL names none.
    """
    kind, parsed = parse_url(url)
    if kind == "sqlite":
        return SqlitePlace(sqlite_path(url), timeout)
    return ServerPlace(kind, parsed)


class SqlitePlace:
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
    """Complain of options that the driver would stumble over, or name where it should not."""
    if is_postgresql:
        from imgservice.db.engine.postgresql import check_options

        check_options(url)
    else:
        from imgservice.db.engine.mysql import read_options

        read_options(url.query)


class ServerPlace:
    """A PostgreSQL or MariaDB database, in which somebody has already run CREATE DATABASE."""

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
                f"SELECT GET_LOCK('imgservice.{_LOCK}', {_TIMEOUT})"
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
