"""The states of an image while it gets its data, as statements of a transaction."""

from collections.abc import Mapping
from datetime import datetime

import sqlalchemy as sa

from imgservice.db.engine.database import Transaction
from imgservice.db.engine.statement import Parameters, Statement
from imgservice.db.repositories import changes, jobs, locations
from imgservice.db.repositories.locking import THIS, status_of
from imgservice.db.repositories.rows import is_live, location_row
from imgservice.db.schema.tables import images
from imgservice.domain.errors import Conflict, ImageGone, StatusConflict
from imgservice.domain.image import TRANSITIONS, Content, Image, Status
from imgservice.domain.job import Job
from imgservice.domain.names import DETECTED_FORMAT

_CONTENT = ("size", "virtual_size", "checksum", "os_hash_algo", "os_hash_value")


def _turn(
    before: Status, after: Status, *more: sa.ColumnElement[bool], **values: object
) -> Statement:
    """Turn this image to `after`, if it lives, has the status `before`, and `more` holds."""
    if after not in TRANSITIONS[before]:
        raise ValueError(f"{after} cannot follow {before}")
    found = sa.update(images).where(THIS, is_live(images), images.c.status == before.value, *more)
    now: sa.BindParameter[datetime] = sa.bindparam("now")
    return Statement(found.values(updated_at=now, status=after.value, **values))


_BEGIN = _turn(Status.QUEUED, Status.SAVING)
_BEGIN_AS_SEEN = _turn(
    Status.QUEUED,
    Status.SAVING,
    images.c.disk_format == sa.bindparam("disk_format"),
    images.c.container_format == sa.bindparam("container_format"),
)
_ABANDON = _turn(Status.SAVING, Status.QUEUED, size=sa.null(), virtual_size=sa.null())
_NEW_CONTENT: Mapping[str, object] = {name: sa.bindparam(f"new_{name}") for name in _CONTENT}
_FINISH = _turn(Status.SAVING, Status.ACTIVE, **_NEW_CONTENT)
_ACTIVATE = _turn(Status.QUEUED, Status.ACTIVE, **_NEW_CONTENT)


async def begin(transaction: Transaction, image_id: str, seen: Image | None, now: datetime) -> None:
    """Turn a queued image to saving, if its formats are those that were seen."""
    statement = _BEGIN if seen is None else _BEGIN_AS_SEEN
    formats = {} if seen is None else _formats(seen)
    values = {"image": image_id, "now": now, **formats}
    if (await transaction.execute(statement, values)).count:
        return
    status = await status_of(transaction, image_id)
    if status == "queued":
        raise Conflict(f"The formats of image {image_id} have just changed.")
    raise StatusConflict(image_id, status, "queued")


async def finish(transaction: Transaction, job: Job, content: Content, now: datetime) -> None:
    """Turn a saving image to active, and end the job; `ImageGone`."""
    values = {"image": job.image_id, "now": now, **_content(content)}
    if not (
        await jobs.end(transaction, job) and (await transaction.execute(_FINISH, values)).count
    ):
        raise ImageGone(job.image_id)
    await locations.ADD.execute(transaction, [location_row(job.image_id, content.location, now)])
    if (detected := content.detected_format) is not None:
        note = {DETECTED_FORMAT: detected}
        await changes.write_properties(transaction, job.image_id, note, now)


async def abandon(transaction: Transaction, job: Job, now: datetime) -> None:
    """Turn a saving image back to queued, and end the job."""
    if await jobs.end(transaction, job):
        await transaction.execute(_ABANDON, {"image": job.image_id, "now": now})


async def activate(
    transaction: Transaction, image_id: str, content: Content, now: datetime
) -> None:
    """Turn a queued image to active at once."""
    values = {"image": image_id, "now": now, **_content(content)}
    if not (await transaction.execute(_ACTIVATE, values)).count:
        raise StatusConflict(image_id, await status_of(transaction, image_id), "queued")
    await locations.ADD.execute(transaction, [location_row(image_id, content.location, now)])


def _formats(image: Image) -> Parameters:
    return {"disk_format": image.disk_format, "container_format": image.container_format}


def _content(content: Content) -> Parameters:
    return {f"new_{name}": getattr(content, name) for name in _CONTENT}
