"""The rows that a server has about some images, in Glance's own schema."""

import json
from collections.abc import Iterator, Mapping, Sequence
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


_KEYS = {
    "image_properties": "name",
    "image_locations": "value",
    "image_members": "member",
    "image_tags": "value",
}
"""What no two rows of an image have in common that hold at the same time."""


def broken_rows(database: str, images: Sequence[str]) -> list[str]:
    """Tell what cannot be true of these images."""
    with _engine(database).connect() as connection:
        return [problem for image in images for problem in _broken(connection, image)]


def _broken(connection: sa.Connection, image: str) -> Iterator[str]:
    [row] = _select(connection, "images", "id", image)
    live = {
        table: [one for one in _select(connection, table, "image_id", image) if not one["deleted"]]
        for table in CHILDREN
    }
    for table, key in _KEYS.items():
        values = [one[key] for one in live[table]]
        if len(set(values)) < len(values):
            yield f"{table} twice"
        if row["deleted"] and values:
            yield f"{table} of a deleted image"
    if not row["deleted"]:
        yield from _broken_data(row, len(live["image_locations"]))


def _broken_data(row: Mapping[str, Any], locations: int) -> Iterator[str]:
    if row["status"] not in ("queued", "active", "deactivated"):
        yield f"left {row['status']}"
    elif row["status"] == "queued" and locations:
        yield "queued with data"
    elif row["status"] != "queued" and locations != 1:
        yield f"{row['status']} with {locations} locations"


def _about(connection: sa.Connection, image: str, names: Names) -> dict[str, Any]:
    return {
        "images": _read(connection, "images", "id", image, names),
        **{table: _read(connection, table, "image_id", image, names) for table in CHILDREN},
    }


def _select(
    connection: sa.Connection, table: str, key: str, image: str
) -> Sequence[Mapping[Any, Any]]:
    return connection.execute(_query(table, key), {"image": image}).mappings().all()


@cache
def _query(table: str, key: str) -> sa.Select[Any]:
    return sa.select(sa.text("*")).select_from(sa.text(table)).where(sa.text(f"{key} = :image"))


def _read(connection: sa.Connection, table: str, key: str, image: str, names: Names) -> list[Any]:
    rows = [
        {name: _value(name, value, names) for name, value in row.items() if name not in _OMITTED}
        for row in _select(connection, table, key, image)
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
