"""Bringing a database to the present shape at every start, or refusing it."""

import sqlite3
from collections.abc import Callable, Iterator, Set
from contextlib import contextmanager
from pathlib import Path

import attrs
import sqlalchemy as sa

from imgservice.db.schema import (
    GLANCE_EXPANDED,
    GLANCE_REVISION,
    GLANCE_VERSION_TABLE,
    OWN_PREFIX,
    OWN_REVISION,
    OWN_VERSION_TABLE,
)
from imgservice.db.sqlite import connect, open_file
from imgservice.db.url import sqlite_path

_MIGRATIONS = Path(__file__).parent / "migrations"
_PATIENCE = 30.0
"""Seconds to wait for another process that upgrades the same database."""


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

    @property
    def is_present(self) -> bool:
        return bool(self.glance) and self.own == {OWN_REVISION}


def upgrade(url: str) -> None:
    """Create or complete the database; `SchemaError` when it is not ours to touch.

    Glance's tables are created in an empty database, and never changed in any other. Processes may
    do this at the same time; one that is killed leaves the database as it was.
    """
    path = sqlite_path(url)
    with _explained(path):
        if path.exists() and _read_state(path).is_present:
            return
        with _alone(path) as connection:
            # Somebody may have been faster.
            _migrate(connection, _accepted(_state(connection)))


def check_schema(url: str) -> None:
    """Raise what `upgrade` would raise, changing nothing; an empty database is fine."""
    path = sqlite_path(url)
    with _explained(path):
        if path.exists():
            _read_state(path)


def _read_state(path: Path) -> State:
    with _connected(lambda: open_file(path, "rw", _PATIENCE)) as connection:
        return _accepted(_state(connection))


def _state(connection: sa.Connection) -> State:
    tables = frozenset(sa.inspect(connection).get_table_names())
    return State(
        tables=tables,
        glance=_revisions(connection, tables, GLANCE_VERSION_TABLE),
        own=_revisions(connection, tables, OWN_VERSION_TABLE),
    )


def _revisions(connection: sa.Connection, tables: Set[str], version_table: str) -> Set[str]:
    if version_table not in tables:
        return frozenset()
    versions = sa.table(version_table, sa.column("version_num"))
    return frozenset(connection.scalars(sa.select(versions.c.version_num)))


def _accepted(state: State) -> State:
    """Return the state, or raise why the database must be left alone."""
    if state.tables and not state.glance:
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


@contextmanager
def _connected(opened: Callable[[], sqlite3.Connection]) -> Iterator[sa.Connection]:
    engine = sa.create_engine("sqlite://", creator=opened, poolclass=sa.NullPool)
    with engine.connect() as connection:
        yield connection


@contextmanager
def _alone(path: Path) -> Iterator[sa.Connection]:
    """Give a connection in a transaction that no other process can begin meanwhile."""
    with _connected(lambda: connect(path, "rwc", _PATIENCE)) as connection:
        connection.exec_driver_sql("BEGIN EXCLUSIVE")
        yield connection
        connection.exec_driver_sql("COMMIT")


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn what the database itself complains about into one plain sentence."""
    try:
        yield
    except (sa.exc.DBAPIError, sqlite3.Error) as error:
        reason = error.orig if isinstance(error, sa.exc.DBAPIError) else error
        raise SchemaError(f"The database {path} cannot be used: {reason}.") from error
