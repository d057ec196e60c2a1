"""Optional indexes on Glance's tables, which make lists fast at any size.

Glance ignores them. Only a command creates them: each costs space, and a little time with every
change of an image.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager

import attrs
import sqlalchemy as sa

from imgservice.db.engine.url import parse_url
from imgservice.db.repositories.listing.keys import beginning, sort_key
from imgservice.db.schema.database import SchemaError
from imgservice.db.schema.tables import image_members, image_properties, image_tags, images
from imgservice.db.schema.upgrade import ready_database

TIMEOUT = 30.0
"""Seconds to wait for another process that writes or creates indexes."""
_LOCK = 4_129_387_116
"""The number of the lock under which indexes are created."""


@attrs.frozen
class ExtraIndex:
    """An index that is not Glance's, and its purpose."""

    name: str
    table: sa.Table
    keys: tuple[sa.ClauseElement, ...]
    purpose: str

    def creation(self, dialect: sa.Dialect) -> str:
        """Return the statement that creates it, without blocking writes where that is possible."""
        keys = (str(_spelled(key, dialect)) for key in self.keys)
        listed = ", ".join(f"({key})" if "(" in key else key for key in keys)
        how, more = _WAYS.get(dialect.name, ("", ""))
        return f"CREATE INDEX {how}{self.name} ON {self.table.name} ({listed}){more}"

    def removal(self, dialect: sa.Dialect) -> str:
        how, _ = _WAYS.get(dialect.name, ("", ""))
        where = f" ON {self.table.name}" if dialect.name == "mysql" else ""
        return f"DROP INDEX {how}{self.name}{where}"

    def is_possible(self, kind: str) -> bool:
        """Tell whether that kind of database has such indexes; MariaDB has none on expressions."""
        return kind != "mysql" or all(isinstance(key, sa.Column) for key in self.keys)


_WAYS: Mapping[str, tuple[str, str]] = {
    "postgresql": ("CONCURRENTLY ", ""),
    "mysql": ("", " ALGORITHM=INPLACE LOCK=NONE"),
}


def _spelled(key: sa.ClauseElement, dialect: sa.Dialect) -> sa.Compiled:
    return key.compile(dialect=dialect, compile_kwargs={"include_table": False})


def _of_images(name: str, key: sa.ClauseElement, purpose: str) -> ExtraIndex:
    """Return an index that has the images with one value of `key` in the order of lists."""
    keys = (key, images.c.created_at, images.c.id)
    return ExtraIndex(f"imgsvc_images_{name}", images, keys, purpose)


EXTRA_INDEXES = (
    _of_images("owner", images.c.owner, "what a project owns, newest first"),
    _of_images("visibility", images.c.visibility, "public and community images, newest first"),
    _of_images("status", images.c.status, "filters by a status"),
    _of_images("name", sort_key("name"), "filters and sorting by name"),
    _of_images("size", sort_key("size"), "sorting by size"),
    _of_images("updated_at", sort_key("updated_at"), "sorting by time of change"),
    ExtraIndex(
        "imgsvc_image_members_member",
        image_members,
        (image_members.c.member, image_members.c.image_id),
        "what is shared with a project",
    ),
    ExtraIndex(
        "imgsvc_image_properties_value",
        image_properties,
        (image_properties.c.name, beginning(image_properties.c.value), image_properties.c.image_id),
        "filters by a property",
    ),
    ExtraIndex(
        "imgsvc_image_tags_value",
        image_tags,
        (image_tags.c.value, image_tags.c.image_id),
        "filters by a tag",
    ),
)


def possible_indexes(url: str) -> tuple[ExtraIndex, ...]:
    """Return the indexes that a database of this kind can have; `UrlError` for an invalid URL."""
    kind, _ = parse_url(url)
    return tuple(one for one in EXTRA_INDEXES if one.is_possible(kind))


def present_indexes(url: str) -> frozenset[str]:
    """Return the names of those that the database has; `SchemaError` if it cannot be used."""
    with _opened(url, TIMEOUT) as connection:
        return frozenset(name for name, is_whole in _present(connection).items() if is_whole)


def add_indexes(url: str, timeout: float = TIMEOUT) -> Iterator[ExtraIndex]:
    """Create those that are missing, one after the other; yield each when it is complete.

    On SQLite nothing can be written meanwhile. A running service uses them without a restart.
    """
    with _opened(url, timeout) as connection:
        for one in possible_indexes(url):
            with _alone(connection, timeout):
                # Read under the lock: another process may do the same.
                is_whole = _present(connection).get(one.name)
                if is_whole is False:
                    connection.exec_driver_sql(one.removal(connection.dialect))
                if not is_whole:
                    connection.exec_driver_sql(one.creation(connection.dialect))
            if not is_whole:
                yield one


def drop_indexes(url: str, timeout: float = TIMEOUT) -> Iterator[ExtraIndex]:
    """Drop those that are present; yield each when it is dropped."""
    with _opened(url, timeout) as connection:
        for one in EXTRA_INDEXES:
            with _alone(connection, timeout):
                is_there = one.name in _present(connection)
                if is_there:
                    connection.exec_driver_sql(one.removal(connection.dialect))
            if is_there:
                yield one


@contextmanager
def _opened(url: str, timeout: float) -> Iterator[sa.Connection]:
    """Yield a connection on which each statement is a transaction of its own."""
    database = ready_database(url, timeout)
    with database.explained(), database.connected() as connection:
        yield connection.execution_options(isolation_level="AUTOCOMMIT")


# -- what differs between the databases -----------------------------------------------------------

_CATALOGUE = {
    "sqlite": "SELECT name, 1 FROM sqlite_master WHERE type = 'index'",
    # One whose creation was interrupted is still there, but not valid.
    "postgresql": "SELECT relname, indisvalid FROM pg_index"
    " JOIN pg_class ON pg_class.oid = indexrelid WHERE pg_table_is_visible(indexrelid)",
    "mysql": "SELECT DISTINCT index_name, 1 FROM information_schema.statistics"
    " WHERE table_schema = DATABASE()",
}


def _present(connection: sa.Connection) -> Mapping[str, bool]:
    """Return the names of those that are present, and whether each is complete."""
    ours = {one.name for one in EXTRA_INDEXES}
    found = connection.exec_driver_sql(_CATALOGUE[connection.dialect.name])
    return {name: bool(is_whole) for name, is_whole in found if name in ours}


def _alone(connection: sa.Connection, timeout: float) -> AbstractContextManager[None]:
    """Hold the lock that keeps out other commands like this one."""
    return _ALONE[connection.dialect.name](connection, timeout)


@contextmanager
def _sqlite_alone(connection: sa.Connection, timeout: float) -> Iterator[None]:
    connection.exec_driver_sql("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        connection.exec_driver_sql("ROLLBACK")
        raise
    connection.exec_driver_sql("COMMIT")


@contextmanager
def _postgresql_alone(connection: sa.Connection, timeout: float) -> Iterator[None]:
    """Poll for the lock: waiting for it would hold a snapshot, for whose end the holder may wait.

    Creating an index concurrently waits until all older snapshots have ended.
    """
    end = time.monotonic() + timeout
    while not connection.exec_driver_sql(f"SELECT pg_try_advisory_lock({_LOCK})").scalar():
        if time.monotonic() > end:
            raise SchemaError(_BUSY)
        time.sleep(0.1)
    connection.exec_driver_sql("SET statement_timeout = 0")
    yield
    connection.exec_driver_sql(f"SELECT pg_advisory_unlock({_LOCK})")


@contextmanager
def _mysql_alone(connection: sa.Connection, timeout: float) -> Iterator[None]:
    lock = f"'imgservice.{_LOCK}'"
    if not connection.exec_driver_sql(f"SELECT GET_LOCK({lock}, {timeout})").scalar():
        raise SchemaError(_BUSY)
    # While a statement waits for a table's lock, no other can begin to use the table.
    connection.exec_driver_sql(f"SET SESSION lock_wait_timeout = {max(1, min(5, int(timeout)))}")
    yield
    connection.exec_driver_sql(f"SELECT RELEASE_LOCK({lock})")


_BUSY = "Another process is changing the indexes of the database."
_ALONE: Mapping[str, Callable[[sa.Connection, float], AbstractContextManager[None]]] = {
    "sqlite": _sqlite_alone,
    "postgresql": _postgresql_alone,
    "mysql": _mysql_alone,
}
