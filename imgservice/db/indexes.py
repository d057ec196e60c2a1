"""Indexes beside Glance's own: lists are right without them, and with them quick at any size.

Glance neither knows nor minds them. Only a command makes them: each costs space, and a little time
with every change of an image.
"""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import attrs
import sqlalchemy as sa

from imgservice.db.listing import beginning, sort_key
from imgservice.db.schema import image_members, image_properties, image_tags, images
from imgservice.db.sqlite import Sqlite, connect, open_file
from imgservice.db.upgrade import SchemaError, check_schema
from imgservice.db.url import sqlite_path

PATIENCE = 30.0
"""Seconds to wait for somebody else who writes."""


@attrs.frozen
class ExtraIndex:
    """An index that is not Glance's, and what it is good for."""

    name: str
    table: sa.Table
    keys: tuple[sa.ColumnElement[Any], ...]
    purpose: str

    def creation(self, dialect: sa.Dialect) -> str:
        """Return the statement that makes it."""
        keys = (str(_spelled(key, dialect)) for key in self.keys)
        listed = ", ".join(f"({key})" if "(" in key else key for key in keys)
        return f"CREATE INDEX {self.name} ON {self.table.name} ({listed})"


def _spelled(key: sa.ColumnElement[Any], dialect: sa.Dialect) -> sa.Compiled:
    return key.compile(dialect=dialect, compile_kwargs={"include_table": False})


def _of_images(name: str, key: sa.ColumnElement[Any], purpose: str) -> ExtraIndex:
    """An index that gives the images with one value of `key` in the order of lists."""
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


def present_indexes(url: str) -> frozenset[str]:
    """Return the names of those that the database has; `SchemaError` when it is not usable."""
    path = _usable(url)
    with _opened(path, lambda: open_file(path, "ro", PATIENCE)) as connection:
        return _present(connection)


def add_indexes(url: str, patience: float = PATIENCE) -> Iterator[ExtraIndex]:
    """Make those that are missing, one after the other; yield each when it is there.

    Each is a transaction of its own, during which others can read but not write. Afterwards the
    service, which may run all the time, uses them.
    """
    return _changed(url, patience, lambda one: one.creation(Sqlite.dialect), wanted=True)


def drop_indexes(url: str, patience: float = PATIENCE) -> Iterator[ExtraIndex]:
    """Remove those that are there; yield each when it is gone."""
    return _changed(url, patience, lambda one: f"DROP INDEX {one.name}", wanted=False)


def _changed(
    url: str, patience: float, statement: Callable[[ExtraIndex], str], wanted: bool
) -> Iterator[ExtraIndex]:
    path = _usable(url)
    with _opened(path, lambda: connect(path, "rw", patience)) as connection:
        for one in EXTRA_INDEXES:
            connection.execute("BEGIN IMMEDIATE")
            # Looked at with the lock in hand: somebody else may do the same.
            is_changed = (one.name in _present(connection)) is not wanted
            if is_changed:
                connection.execute(statement(one))
            connection.execute("COMMIT")
            if is_changed:
                yield one


def _present(connection: sqlite3.Connection) -> frozenset[str]:
    found = connection.execute("SELECT name FROM sqlite_master WHERE type = 'index'")
    return frozenset(name for (name,) in found) & {one.name for one in EXTRA_INDEXES}


def _usable(url: str) -> Path:
    path = sqlite_path(url)
    if not path.exists():
        raise SchemaError(f"The database {path} does not exist yet.")
    check_schema(url)
    return path


@contextmanager
def _opened(path: Path, open_it: Callable[[], sqlite3.Connection]) -> Iterator[sqlite3.Connection]:
    try:
        with closing(open_it()) as connection:
            yield connection
    except sqlite3.Error as error:
        raise SchemaError(f"The database {path} cannot be used: {error}.") from error
