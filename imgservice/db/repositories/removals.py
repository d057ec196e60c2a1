"""How an image goes, and comes back if a store still needs its data, as statements."""

from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa

from imgservice.db.engine.aggregate import unindexed
from imgservice.db.engine.database import Transaction
from imgservice.db.engine.statement import Statement
from imgservice.db.repositories import locations
from imgservice.db.repositories.locking import THIS, status_of
from imgservice.db.repositories.rows import active_locations, is_live, of_image, to_locations
from imgservice.db.schema.tables import (
    image_locations,
    image_members,
    image_properties,
    image_tags,
    images,
)
from imgservice.domain.errors import Forbidden
from imgservice.domain.image import Location, Status

_NOW: sa.BindParameter[datetime] = sa.bindparam("now")
_CHILDREN = (image_locations, image_properties, image_tags, image_members)


def _delete_children(table: sa.Table) -> Statement:
    found = sa.update(table).where(table.c.image_id == sa.bindparam("image"), is_live(table))
    return Statement(found.values(deleted=sa.true(), **_marks(table, "deleted", _NOW)))


def _restore_children(table: sa.Table) -> Statement:
    found = sa.update(table).where(_deleted_with_image(table))
    return Statement(found.values(deleted=sa.false(), **_marks(table, "active", sa.null())))


def _marks(table: sa.Table, status: str, deleted_at: object) -> dict[str, object]:
    marks = {"deleted_at": deleted_at, "updated_at": _NOW}
    return marks | {"status": status} if table is image_locations else marks


def _deleted_with_image(table: sa.Table) -> sa.ColumnElement[bool]:
    """The row was deleted with its image, and not long before it."""
    at = sa.select(images.c.deleted_at).where(THIS, unindexed(images.c.deleted) == sa.true())
    return sa.and_(
        table.c.image_id == sa.bindparam("image"),
        unindexed(table.c.deleted) == sa.true(),
        table.c.deleted_at == at.scalar_subquery(),
    )


_DELETE = Statement(
    sa.update(images)
    .where(THIS, is_live(images), images.c.protected == sa.false())
    .values(status="deleted", deleted=sa.true(), deleted_at=_NOW, updated_at=_NOW)
)
_DELETE_CHILDREN = [_delete_children(table) for table in _CHILDREN]
_BELONGINGS = Statement(
    sa.select(
        active_locations().scalar_subquery(),
        *(of_image(table, table.c.id).exists() for table in _CHILDREN),
    ).where(THIS)
)
_UNDELETE = Statement(
    sa.update(images)
    .where(THIS, unindexed(images.c.deleted) == sa.true())
    .values(
        status=sa.bindparam("new_status"),
        deleted=sa.false(),
        deleted_at=sa.null(),
        updated_at=_NOW,
    )
)
_RESTORE_CHILDREN = [_restore_children(table) for table in _CHILDREN]
DELETED_LOCATIONS = Statement(
    sa.select(image_locations.c.value, image_locations.c.meta_data)
    .where(_deleted_with_image(image_locations))
    .order_by(image_locations.c.id)
)


async def delete(transaction: Transaction, image_id: str, now: datetime) -> Sequence[Location]:
    """Mark the image and all that belongs to it deleted; return the locations that it had."""
    values = {"image": image_id, "now": now}
    if not (await transaction.execute(_DELETE, values)).count:
        await status_of(transaction, image_id)
        raise Forbidden(f"Image {image_id} is protected and cannot be deleted.")
    present, *belongings = (await transaction.execute(_BELONGINGS, values)).rows[0]
    for any_of_these, statement in zip(belongings, _DELETE_CHILDREN, strict=True):
        if any_of_these:
            await transaction.execute(statement, values)
    return to_locations(present)


async def undelete(transaction: Transaction, image_id: str, status: Status, now: datetime) -> None:
    """Take `delete` back."""
    values = {"image": image_id, "now": now, "new_status": status.value}
    # The children first: they know by the image's own mark that they went with it.
    for statement in _RESTORE_CHILDREN:
        await transaction.execute(statement, values)
    await locations.rewrite(transaction, image_id)
    await transaction.execute(_UNDELETE, values)
