"""What lists are sorted by, and where the next page begins.

`sort_key` and `beginning` are also the expressions of indexes, so they have no parameters.
"""

from collections.abc import Iterator

import sqlalchemy as sa

from imgservice.db.repositories.listing.shape import Sort
from imgservice.db.schema.tables import images
from imgservice.domain.query import Direction

Condition = sa.ColumnElement[bool]
Key = sa.ColumnElement[object]
Ids = sa.Select[str]
"""Selects ids of images."""

_INDEXED_LENGTH = 100
"""Characters of a property's value that are indexed."""


def beginning(text: sa.ColumnElement[str]) -> sa.ColumnElement[str]:
    """Return the part of a property's value that is indexed."""
    length: sa.ColumnClause[int] = sa.literal_column(str(_INDEXED_LENGTH))
    first: sa.ColumnClause[int] = sa.literal_column("1")
    return sa.func.substr(text, first, length)


def sort_key(field: str) -> Key:
    """Return what a list sorts by: never NULL, or no page could begin after such a row."""
    column = images.c[field]
    if field == "updated_at":
        return sa.func.coalesce(column, images.c.created_at)
    if not column.nullable:
        return column
    return sa.func.coalesce(column, sa.literal_column("0" if field == "size" else "''"))


def ordered(sort: Sort) -> list[Key]:
    return [towards(way, sort_key(field)) for field, way in sort]


def towards(way: Direction, key: Key) -> Key:
    return key.asc() if way == "asc" else key.desc()


def after_marker(sort: Sort) -> Iterator[Condition]:
    """Yield: the row comes after the one whose keys are the parameters key_0, key_1 ..."""
    after: Condition = sa.false()
    for number, (field, way) in reversed(list(enumerate(sort))):
        key = sort_key(field)
        value: sa.BindParameter[object] = sa.bindparam(f"key_{number}")
        beyond = key > value if way == "asc" else key < value
        after = sa.or_(beyond, sa.and_(key == value, after))
    yield after
    # Redundant, but an index on the first key can use it.
    field, way = sort[0]
    first: sa.BindParameter[object] = sa.bindparam("key_0")
    yield sort_key(field) >= first if way == "asc" else sort_key(field) <= first
