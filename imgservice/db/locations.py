"""Locations of images as rows."""

from datetime import datetime

import orjson
import sqlalchemy as sa

from imgservice.db.aggregate import unindexed
from imgservice.db.database import Transaction
from imgservice.db.inserts import Inserts
from imgservice.db.rows import is_live, location_row
from imgservice.db.schema import image_locations
from imgservice.db.statement import Row, Statement
from imgservice.domain.image import Image, Location

_COLUMNS = image_locations.c
_OF_IMAGE = _COLUMNS.image_id == sa.bindparam("image")
_IS_LOST = sa.and_(
    _OF_IMAGE,
    unindexed(_COLUMNS.deleted) == sa.true(),
    unindexed(_COLUMNS.status) == "pending_delete",
)
"""Rows of what clients see no more, and whose data is still to be removed."""

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
"""Not by its URL: Glance may rewrite that at any time, to have the store in it, or no password."""
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

_LIVE = (_OF_IMAGE, is_live(image_locations), _COLUMNS.status == "active")
_IN_ORDER = Statement(sa.select(_COLUMNS.id).where(*_LIVE).order_by(_COLUMNS.id))
_HIDE = Statement(sa.update(image_locations).where(*_LIVE).values(deleted=sa.true()))
_SHOW = Statement(
    sa.update(image_locations)
    .where(_OF_IMAGE, _COLUMNS.id == sa.bindparam("row"))
    .values(deleted=sa.false())
)


async def record(transaction: Transaction, before: Image, after: Image, now: datetime) -> bool:
    """Write how the locations differ; tell whether any went, whose data is then to be removed."""
    old = {location.url: location for location in before.locations}
    new = {location.url: location for location in after.locations}
    gone = [{"image": before.id, "row": old[url].row, "now": now} for url in old if url not in new]
    changed = [
        {"image": before.id, "row": old[url].row, "now": now, "new_meta_data": _metadata(new[url])}
        for url in new
        if url in old and new[url].metadata != old[url].metadata
    ]
    await transaction.execute_many(_REMOVE, gone)
    await transaction.execute_many(_CHANGE, changed)
    added = [location_row(before.id, new[url], now) for url in new if url not in old]
    if changed or (added and old):
        await rewrite(transaction, before.id)
    await ADD.execute(transaction, added)
    return bool(gone)


async def rewrite(transaction: Transaction, image_id: str) -> None:
    """Write the live rows of an image anew, in the order of their ids.

    Glance reads them without an order, and an update moves a row in PostgreSQL: behind the others
    in the table, and in the indexes too when an indexed column changes or the row's page is full.
    So all of them move, and an indexed column, `deleted`, changes for a moment. Rows that only
    lose one of them stay where they are.
    """
    key = {"image": image_id}
    rows: list[Row] = list((await transaction.execute(_IN_ORDER, key)).rows)
    if len(rows) > 1:
        await transaction.execute(_HIDE, key)
        await transaction.execute_many(_SHOW, [{**key, "row": row} for (row,) in rows])


def _metadata(location: Location) -> str:
    return orjson.dumps(dict(location.metadata)).decode()
