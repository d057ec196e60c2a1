"""Locations of images as rows."""

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler

from imgservice.db.engine.aggregate import unindexed
from imgservice.db.engine.database import Transaction
from imgservice.db.engine.inserts import Inserts
from imgservice.db.engine.statement import Statement
from imgservice.db.repositories.rows import is_live, location_row, metadata_text
from imgservice.db.schema.tables import image_locations
from imgservice.domain.image import Image

_COLUMNS = image_locations.c
_OF_IMAGE = _COLUMNS.image_id == sa.bindparam("image")
_IS_LOST = sa.and_(
    _OF_IMAGE,
    unindexed(_COLUMNS.deleted) == sa.true(),
    unindexed(_COLUMNS.status) == "pending_delete",
)
"""The row is hidden from clients, and its data has still to be removed."""

ADD = Inserts(
    sa.insert(image_locations),
    "image_id",
    "value",
    "meta_data",
    "status",
    "created_at",
    "updated_at",
    deleted=sa.false(),
)
_THIS = (_OF_IMAGE, _COLUMNS.id == sa.bindparam("row"), is_live(image_locations))
"""By id and not by URL: Glance may rewrite URLs at any time, with a store or without a password."""
_CHANGE = Statement(
    sa.update(image_locations)
    .where(*_THIS)
    .values(meta_data=sa.bindparam("new_meta_data"), updated_at=sa.bindparam("now"))
)
_REMOVE = Statement(
    sa.update(image_locations)
    .where(*_THIS)
    .values(
        status="pending_delete",
        deleted=sa.true(),
        deleted_at=sa.bindparam("now"),
        updated_at=sa.bindparam("now"),
    )
)
LOST = Statement(
    sa.select(_COLUMNS.value, _COLUMNS.meta_data).where(_IS_LOST).order_by(_COLUMNS.id)
)
FORGET = Statement(
    sa.update(image_locations)
    .where(_IS_LOST)
    .values(status="deleted", updated_at=sa.bindparam("now"))
)
RESTORE = Statement(
    sa.update(image_locations)
    .where(_IS_LOST)
    .values(
        status="active", deleted=sa.false(), deleted_at=sa.null(), updated_at=sa.bindparam("now")
    )
)


class _OnPostgresql(sa.TextClause):
    """A statement for PostgreSQL; other databases do nothing."""

    inherit_cache = False


@compiles(_OnPostgresql)
def _nothing(element: _OnPostgresql, compiler: SQLCompiler, **options: object) -> str:
    return "SELECT 0"


@compiles(_OnPostgresql, "postgresql")
def _itself(element: _OnPostgresql, compiler: SQLCompiler, **options: object) -> str:
    text: str = compiler.visit_textclause(element, **options)  # type: ignore[no-untyped-call]
    return text


_ALL = ", ".join(column.name for column in image_locations.columns)
_REWRITE = Statement(
    _OnPostgresql(
        "WITH gone AS (DELETE FROM image_locations"  # noqa: S608
        f" WHERE image_id = :image AND NOT deleted AND status = 'active' RETURNING {_ALL}),"
        f" put AS (INSERT INTO image_locations ({_ALL}) SELECT {_ALL} FROM gone ORDER BY id"
        " RETURNING id, ctid AS place),"
        " pairs AS (SELECT place, lag(place) OVER (ORDER BY id) AS previous FROM put)"
        " SELECT count(*) FROM pairs WHERE place < previous"
    )
)
"""Returns how many rows lie before their predecessor."""
_TRIES = 10


async def record(transaction: Transaction, before: Image, after: Image, now: datetime) -> bool:
    """Write the changes of the locations; tell whether any was removed, whose data must go then."""
    old = {location.url: location for location in before.locations}
    new = {location.url: location for location in after.locations}
    gone = [{"image": before.id, "row": old[url].row, "now": now} for url in old if url not in new]
    changed = [
        {
            "image": before.id,
            "row": old[url].row,
            "now": now,
            "new_meta_data": metadata_text(new[url]),
        }
        for url in new
        if url in old and new[url].metadata != old[url].metadata
    ]
    await transaction.execute_many(_REMOVE, gone)
    await transaction.execute_many(_CHANGE, changed)
    added = [location_row(before.id, new[url], now) for url in new if url not in old]
    await ADD.execute(transaction, added)
    if changed or (added and old):
        await rewrite(transaction, before.id)
    return bool(gone)


async def rewrite(transaction: Transaction, image_id: str) -> None:
    """Rewrite the live rows of an image in the order of their ids.

    Glance reads them without an order: in PostgreSQL as they lie in the table, or in an index. An
    update moves a row to wherever there is room. Rows that are inserted together lie together,
    unless their page is full: then they are moved again.
    """
    for _ in range(_TRIES):
        [(misplaced,)] = (await transaction.execute(_REWRITE, {"image": image_id})).rows
        if not misplaced:
            return
