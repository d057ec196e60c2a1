"""The rows that a server has about some images, in Glance's own schema."""

import json
from collections.abc import Sequence
from functools import cache
from typing import Any

import sqlalchemy as sa

from compare.normal import Names, normal

CHILDREN = ("image_properties", "image_locations", "image_members", "image_tags")
_OMITTED = ("id", "image_id")


@cache
def _engine(url: str) -> sa.Engine:
    return sa.create_engine(url)


def rows_of(database: str, images: Sequence[str], names: Names) -> list[Any]:
    """Return everything about these images, in the order in which they were made."""
    with _engine(database).connect() as connection:
        return [_about(connection, image, names) for image in images]


def _about(connection: sa.Connection, image: str, names: Names) -> dict[str, Any]:
    return {
        "images": _read(connection, "images", "id", image, names),
        **{table: _read(connection, table, "image_id", image, names) for table in CHILDREN},
    }


def _read(connection: sa.Connection, table: str, key: str, image: str, names: Names) -> list[Any]:
    query = sa.select(sa.text("*")).select_from(sa.text(table)).where(sa.text(f"{key} = :image"))
    found = connection.execute(query, {"image": image}).mappings()
    rows = [
        {name: _value(name, value, names) for name, value in row.items() if name not in _OMITTED}
        for row in found
    ]
    return sorted(rows, key=lambda row: json.dumps(row, sort_keys=True))


def _value(column: str, value: Any, names: Names) -> Any:
    """Booleans are numbers in SQLite, and times are texts; both become the same."""
    if value is not None and column.endswith("_at"):
        return "<time>"
    if isinstance(value, bool):
        return int(value)
    if column == "meta_data" and value is not None:
        return normal(json.loads(value), names)
    return names.text(value) if isinstance(value, str) else value
