"""Reading one image inside a transaction that is about to change it."""

import sqlalchemy as sa

from imgservice.db.engine.database import Transaction
from imgservice.db.engine.statement import Statement
from imgservice.db.repositories.rows import image_columns, is_live, to_image
from imgservice.db.schema.tables import images
from imgservice.domain.errors import ImageNotFound
from imgservice.domain.image import Image

THIS = images.c.id == sa.bindparam("image")

GET = Statement(sa.select(*image_columns("project")).where(THIS, is_live(images)))
# Reading comes after it: what a database reads in the statement that waits for the lock may be old.
_LOCK = Statement(sa.select(images.c.id).where(THIS, is_live(images)).with_for_update())
_STATUS = Statement(sa.select(images.c.status).where(THIS, is_live(images)))


async def lock(transaction: Transaction, image_id: str) -> None:
    """Let nobody else change the image until the transaction ends; `ImageNotFound`."""
    if not (await transaction.execute(_LOCK, {"image": image_id})).rows:
        raise ImageNotFound(image_id)


async def locked(transaction: Transaction, image_id: str, project: str | None = None) -> Image:
    """Return the image, which nobody else changes until the transaction ends."""
    await lock(transaction, image_id)
    found = await transaction.execute(GET, {"image": image_id, "project": project})
    return to_image(found.rows[0])


async def status_of(transaction: Transaction, image_id: str) -> str:
    """Return the status of the image; `ImageNotFound`."""
    found = (await transaction.execute(_STATUS, {"image": image_id})).rows
    if not found:
        raise ImageNotFound(image_id)
    status: str = found[0][0]
    return status
