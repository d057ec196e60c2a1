"""The difference between two states of an image, as statements."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from enum import Enum
from functools import lru_cache

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.dml import Insert

from imgservice.db.engine.database import Transaction
from imgservice.db.engine.inserts import Inserts
from imgservice.db.engine.statement import Parameters, Statement
from imgservice.db.repositories import locations
from imgservice.db.repositories.rows import IMAGE_COLUMNS, is_live
from imgservice.db.schema.tables import image_properties, image_tags, images
from imgservice.domain.errors import StatusConflict
from imgservice.domain.image import Image
from imgservice.domain.names import IMPORT_LOCK

_UNCHANGEABLE = frozenset(("id", "created_at", "updated_at"))
_COLUMNS = tuple(name for name in IMAGE_COLUMNS if name not in _UNCHANGEABLE)
_OVERWRITTEN = ("value", "updated_at", "deleted", "deleted_at")


class _WriteProperty(Insert):
    """Insert a property, or overwrite the row that its name has had since it was first used."""

    inherit_cache = False


def _insert(element: _WriteProperty, compiler: SQLCompiler, options: dict[str, object]) -> str:
    text: str = compiler.visit_insert(element, **options)  # type: ignore[no-untyped-call]
    return text


@compiles(_WriteProperty)
def _on_conflict(element: _WriteProperty, compiler: SQLCompiler, **options: object) -> str:
    taken = ", ".join(f"{name} = excluded.{name}" for name in _OVERWRITTEN)
    return (
        f"{_insert(element, compiler, options)} ON CONFLICT (image_id, name) DO UPDATE SET {taken}"
    )


@compiles(_WriteProperty, "mysql")
@compiles(_WriteProperty, "mariadb")
def _on_duplicate_key(element: _WriteProperty, compiler: SQLCompiler, **options: object) -> str:
    taken = ", ".join(f"{name} = VALUES({name})" for name in _OVERWRITTEN)
    return f"{_insert(element, compiler, options)} ON DUPLICATE KEY UPDATE {taken}"


WRITE_PROPERTIES = Inserts(
    _WriteProperty(image_properties),
    "image_id",
    "name",
    "value",
    "created_at",
    "updated_at",
    "deleted",
    "deleted_at",
)
ADD_TAGS = Inserts(
    sa.insert(image_tags), "image_id", "value", "created_at", "updated_at", deleted=sa.false()
)
_REMOVE_TAG = Statement(
    sa.update(image_tags)
    .where(
        image_tags.c.image_id == sa.bindparam("image"),
        image_tags.c.value == sa.bindparam("tag"),
        is_live(image_tags),
    )
    .values(
        updated_at=sa.bindparam("updated_at"),
        deleted_at=sa.bindparam("deleted_at"),
        deleted=sa.true(),
    )
)


@lru_cache(maxsize=256)
def _update(columns: tuple[str, ...]) -> Statement:
    found = sa.update(images).where(
        images.c.id == sa.bindparam("image"),
        is_live(images),
        images.c.status == sa.bindparam("status_before"),
    )
    changed: dict[str, object] = {
        name: sa.bindparam(f"new_{name}") for name in (*columns, "updated_at")
    }
    return Statement(found.values(changed))


async def record(transaction: Transaction, before: Image, after: Image, now: datetime) -> bool:
    """Write what differs, and in any case that the image was changed now.

    Tells whether the image lost locations, whose data is then to be removed.
    """
    await _record_columns(transaction, before, after, now)
    await WRITE_PROPERTIES.execute(transaction, list(_property_rows(before, after, now)))
    gone, new = (sorted({*one.tags} - {*other.tags}) for one, other in _both_ways(before, after))
    key = {"image": before.id, "updated_at": now, "deleted_at": now}
    await transaction.execute_many(_REMOVE_TAG, [{**key, "tag": tag} for tag in gone])
    row = {"image_id": before.id, "created_at": now, "updated_at": now}
    await ADD_TAGS.execute(transaction, [{**row, "value": tag} for tag in new])
    return await locations.record(transaction, before, after, now)


async def write_properties(
    transaction: Transaction, image_id: str, properties: Mapping[str, str], now: datetime
) -> None:
    """Write these properties of the image; the others stay."""
    rows = [_property_row(image_id, name, value, False, now) for name, value in properties.items()]
    await WRITE_PROPERTIES.execute(transaction, rows)


def _both_ways(before: Image, after: Image) -> Sequence[tuple[Image, Image]]:
    return (before, after), (after, before)


async def _record_columns(
    transaction: Transaction, before: Image, after: Image, now: datetime
) -> None:
    changed = tuple(name for name in _COLUMNS if getattr(before, name) != getattr(after, name))
    values = {f"new_{name}": _plain(getattr(after, name)) for name in changed}
    key = {"image": before.id, "status_before": before.status.value, "new_updated_at": now}
    done = await transaction.execute(_update(changed), {**values, **key})
    if "status" in changed and not done.count:
        raise StatusConflict(before.id, "changed meanwhile", before.status.value)


def _plain(value: object) -> object:
    return value.value if isinstance(value, Enum) else value


def _property_rows(before: Image, after: Image, now: datetime) -> Iterator[Parameters]:
    """Yield a row for each property that is new, has another value, or is gone."""
    old, new = before.properties, after.properties
    for name in sorted({**old, **new}):
        gone = name not in new
        if name == IMPORT_LOCK or (name in old and not gone and old[name] == new[name]):
            continue
        yield _property_row(before.id, name, old[name] if gone else new[name], gone, now)


def _property_row(
    image_id: str, name: str, value: str | None, gone: bool, now: datetime
) -> Parameters:
    return {
        "image_id": image_id,
        "name": name,
        "value": value,
        "created_at": now,
        "updated_at": now,
        "deleted": gone,
        "deleted_at": now if gone else None,
    }
