"""Creates or upgrades the tables of a database at every start, or refuses the database."""

from collections.abc import Set
from pathlib import Path

import attrs
import sqlalchemy as sa

from imgservice.db.schema.database import TIMEOUT, SchemaDatabase, SchemaError, schema_database
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


@attrs.frozen
class SchemaState:
    """The tables and revisions of a database."""

    tables: Set[str]
    glance: Set[str]
    """The revisions of Glance's tables."""
    own: Set[str]
    """The revision of the tables imgsvc_*."""
    unfinished: Set[str] = frozenset()
    """Empty tables of Glance's without a revision, left by a process that was killed."""

    @property
    def is_present(self) -> bool:
        return bool(self.glance) and self.own == {OWN_REVISION}


def upgrade(url: str) -> None:
    """Create or upgrade the tables; `SchemaError` when the database must be left alone.

    Glance's tables are created in an empty database, and never changed in any other. Processes may
    do this at the same time; one that is killed leaves the database as it was, or, where creating
    tables cannot be rolled back, in a state from which the next one continues.
    """
    database = schema_database(url)
    with database.explained():
        if database.exists() and _accepted_state(database).is_present:
            return
        with database.alone() as connection:
            # Another process may have been faster.
            _migrate(connection, accepted(_state(connection)))


def check_schema(url: str) -> None:
    """Raise what `upgrade` would raise, and change nothing; an empty database is fine."""
    database = schema_database(url)
    with database.explained():
        if database.exists():
            _accepted_state(database)


def read_state(url: str) -> SchemaState:
    """Return the tables and revisions of the database, whether it can be used or not."""
    database = schema_database(url)
    with database.explained():
        if not database.exists():
            return SchemaState(tables=frozenset(), glance=frozenset(), own=frozenset())
        with database.connected() as connection:
            return _state(connection)


def ready_database(url: str, timeout: float = TIMEOUT) -> SchemaDatabase:
    """Return the database; `SchemaError` unless it has all tables, at the present revisions."""
    database = schema_database(url, timeout)
    with database.explained():
        if not database.exists():
            raise SchemaError(f"The database {database.name} does not exist yet.")
        if not _accepted_state(database).is_present:
            raise SchemaError(
                f"The database {database.name} does not have all tables yet:"
                " `imgservice db sync` makes them."
            )
    return database


def _accepted_state(database: SchemaDatabase) -> SchemaState:
    with database.connected() as connection:
        return accepted(_state(connection))


def _state(connection: sa.Connection) -> SchemaState:
    tables = frozenset(sa.inspect(connection).get_table_names())
    glance = _revisions(connection, tables, GLANCE_VERSION_TABLE)
    return SchemaState(
        tables=tables,
        glance=glance,
        own=_revisions(connection, tables, OWN_VERSION_TABLE),
        unfinished=_unfinished(connection, tables) if not glance else frozenset(),
    )


def _unfinished(connection: sa.Connection, tables: Set[str]) -> Set[str]:
    """Return tables without a revision, left where creating tables cannot be rolled back."""
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


def accepted(state: SchemaState) -> SchemaState:
    """Return the state; `SchemaError` when the database must be left alone."""
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
    """Whether our migrations can start from there; importing Alembic, which knows, is slow."""
    from alembic.script import ScriptDirectory

    known = ScriptDirectory(str(_MIGRATIONS / "own")).walk_revisions()
    return bool(own) and own <= {script.revision for script in known}


def _migrate(connection: sa.Connection, state: SchemaState) -> None:
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
