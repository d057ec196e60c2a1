"""The repository of images and of the leases on work with their data."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import attrs
import sqlalchemy as sa

from imgservice.db.engine.aggregate import unindexed
from imgservice.db.engine.database import Database, Rows, Transaction, UniqueViolation, Work
from imgservice.db.engine.inserts import Inserts
from imgservice.db.engine.statement import Parameters, Statement
from imgservice.db.repositories import changes, locations
from imgservice.db.repositories import leases as lease_rows
from imgservice.db.repositories import quota as quotas
from imgservice.db.repositories.listing.shape import driven, parameters_of, shape_of
from imgservice.db.repositories.listing.statements import (
    count_statement,
    marker_statement,
    page_statement,
)
from imgservice.db.repositories.pages import begin, long_images
from imgservice.db.repositories.rows import (
    IMAGE_COLUMNS,
    active_locations,
    image_columns,
    image_row,
    is_live,
    location_row,
    location_rows,
    of_image,
    property_rows,
    tag_rows,
    to_image,
    to_location,
    to_locations,
)
from imgservice.db.schema.tables import (
    image_locations,
    image_members,
    image_properties,
    image_tags,
    images,
)
from imgservice.domain.errors import (
    Conflict,
    DuplicateImage,
    Forbidden,
    ImageGone,
    ImageNotFound,
    Invalid,
    StatusConflict,
)
from imgservice.domain.image import TRANSITIONS, Content, Image, Location, Precondition, Status
from imgservice.domain.lease import Lease
from imgservice.domain.names import DETECTED_FORMAT
from imgservice.domain.query import ImagePage, ImageQuery
from imgservice.domain.quota import Quota, Resource, Usage

T = TypeVar("T")

_THIS = images.c.id == sa.bindparam("image")
_NOW: sa.BindParameter[datetime] = sa.bindparam("now")
_CONTENT = ("size", "virtual_size", "checksum", "os_hash_algo", "os_hash_value")
_CHILDREN = (image_locations, image_properties, image_tags, image_members)


def _turn(
    before: Status, after: Status, *more: sa.ColumnElement[bool], **values: object
) -> Statement:
    """Turn this image to `after`, if it lives, has the status `before`, and `more` holds."""
    if after not in TRANSITIONS[before]:
        raise ValueError(f"{after} cannot follow {before}")
    found = sa.update(images).where(_THIS, is_live(images), images.c.status == before.value, *more)
    return Statement(found.values(updated_at=_NOW, status=after.value, **values))


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
    at = sa.select(images.c.deleted_at).where(_THIS, unindexed(images.c.deleted) == sa.true())
    return sa.and_(
        table.c.image_id == sa.bindparam("image"),
        unindexed(table.c.deleted) == sa.true(),
        table.c.deleted_at == at.scalar_subquery(),
    )


_GET = Statement(sa.select(*image_columns("asking")).where(_THIS, is_live(images)))
# Reading comes after it: what a database reads in the statement that waits for the lock may be old.
_LOCK = Statement(sa.select(images.c.id).where(_THIS, is_live(images)).with_for_update())
_STATE = Statement(sa.select(images.c.status, images.c.protected).where(_THIS, is_live(images)))

_ADD = Inserts(sa.insert(images), *IMAGE_COLUMNS, deleted=sa.false())
_ADD_PROPERTIES = Inserts(
    sa.insert(image_properties),
    "image_id",
    "name",
    "value",
    "created_at",
    "updated_at",
    deleted=sa.false(),
)

_BEGIN_UPLOAD = _turn(Status.QUEUED, Status.SAVING)
_BEGIN_UPLOAD_AS_SEEN = _turn(
    Status.QUEUED,
    Status.SAVING,
    images.c.disk_format == sa.bindparam("disk_format"),
    images.c.container_format == sa.bindparam("container_format"),
)
_ABANDON_UPLOAD = _turn(Status.SAVING, Status.QUEUED, size=sa.null(), virtual_size=sa.null())
_NEW_CONTENT: dict[str, object] = {name: sa.bindparam(f"new_{name}") for name in _CONTENT}
_FINISH_UPLOAD = _turn(Status.SAVING, Status.ACTIVE, **_NEW_CONTENT)
_ACTIVATE = _turn(Status.QUEUED, Status.ACTIVE, **_NEW_CONTENT)

_DELETE = Statement(
    sa.update(images)
    .where(_THIS, is_live(images), images.c.protected == sa.false())
    .values(status="deleted", deleted=sa.true(), deleted_at=_NOW, updated_at=_NOW)
)
_DELETE_CHILDREN = [_delete_children(table) for table in _CHILDREN]
_BELONGINGS = Statement(
    sa.select(
        active_locations().scalar_subquery(),
        *(of_image(table, table.c.id).exists() for table in _CHILDREN),
    ).where(_THIS)
)
_UNDELETE = Statement(
    sa.update(images)
    .where(_THIS, unindexed(images.c.deleted) == sa.true())
    .values(
        status=sa.bindparam("new_status"),
        deleted=sa.false(),
        deleted_at=sa.null(),
        updated_at=_NOW,
    )
)
_RESTORE_CHILDREN = [_restore_children(table) for table in _CHILDREN]
_DELETED_LOCATIONS = Statement(
    sa.select(image_locations.c.value, image_locations.c.meta_data)
    .where(_deleted_with_image(image_locations))
    .order_by(image_locations.c.id)
)


def utc_now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)


class Images:
    """The `ImageRepository` of a database that may be shared with Glance.

    A lease recorded here lives for `lease_seconds`, unless it is renewed. Its row tells until when,
    by the wall clock, for people to look at; `leases` tells of renewals.
    """

    def __init__(
        self,
        database: Database,
        lease_seconds: float = 60.0,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._database = database
        self._lease_seconds = lease_seconds
        self._now = now

    async def add(self, image: Image, quota: Quota | None = None) -> None:
        async def work(transaction: Transaction) -> None:
            await _check(transaction, quota, {Resource.COUNT_TOTAL: 1})
            try:
                await _ADD.execute(transaction, [image_row(image)])
            except UniqueViolation:
                raise DuplicateImage(image.id) from None
            await _ADD_PROPERTIES.execute(transaction, property_rows(image))
            await changes.ADD_TAGS.execute(transaction, tag_rows(image))
            await locations.ADD.execute(transaction, location_rows(image))

        await self._charged(quota, work)

    async def get(self, image_id: str, asking: str | None = None) -> Image:
        found = await self._database.lookup(_GET, {"image": image_id, "asking": asking}, _to_images)
        if not found:
            raise ImageNotFound(image_id)
        return found[0]

    async def list(self, query: ImageQuery) -> ImagePage:
        shape = shape_of(query)
        counting = count_statement(shape)
        if query.marker is None and counting is None:
            return await self._first_page(page_statement(shape), query)

        async def work(transaction: Transaction) -> ImagePage:
            values = parameters_of(query, await _marker_keys(transaction, query))
            chosen = shape
            if counting is not None:
                counts = (await transaction.execute(counting, values)).rows[0]
                if 0 in counts:
                    return ImagePage()
                chosen = driven(shape, counts)
            begun = begin(await transaction.execute(page_statement(chosen), values), query)
            if isinstance(begun, ImagePage):
                return begun
            return begun.completed(await transaction.execute(*long_images(begun, query.project)))

        return await self._database.read(work)

    async def _first_page(self, statement: Statement, query: ImageQuery) -> ImagePage:
        """Read a page, by one statement if all that is on it is short, without a transaction."""
        begun = await self._database.fetch(
            statement, parameters_of(query), lambda found: begin(found, query)
        )
        if isinstance(begun, ImagePage):
            return begun
        return await self._database.fetch(*long_images(begun, query.project), begun.completed)

    async def update(
        self,
        image_id: str,
        change: Callable[[Image], Image],
        asking: str | None = None,
        lease: Lease | None = None,
        quota: Quota | None = None,
    ) -> Image:
        async def work(transaction: Transaction) -> Image:
            if quota is not None:  # in the order in which uploads lock, too
                await quotas.lock(transaction, quota.project)
            before = await _locked(transaction, image_id, asking)
            after = change(before)
            if after is before:
                return before
            if (more := _stored(after) - _stored(before)) > 0:
                await _check(transaction, quota, {Resource.SIZE_TOTAL: more})
            now = self._now()
            lost = await changes.record(transaction, before, after, now)
            if lost and lease is not None:
                await self._record(transaction, lease)
            return attrs.evolve(after, updated_at=now)

        return await self._charged(quota, work)

    async def activate(self, image_id: str, content: Content, quota: Quota | None = None) -> None:
        async def work(transaction: Transaction) -> None:
            await _check(transaction, quota, {Resource.SIZE_TOTAL: content.size})
            now = self._now()
            values = {"image": image_id, "now": now, **_content(content)}
            if not (await transaction.execute(_ACTIVATE, values)).count:
                status, _ = await _state(transaction, image_id)
                raise StatusConflict(image_id, status, "queued")
            location = location_row(image_id, content.location, now)
            await locations.ADD.execute(transaction, [location])

        await self._charged(quota, work)

    async def begin_upload(
        self, lease: Lease, seen: Image | None = None, quota: Quota | None = None
    ) -> None:
        statement = _BEGIN_UPLOAD if seen is None else _BEGIN_UPLOAD_AS_SEEN
        formats = {} if seen is None else _formats(seen)
        more = {Resource.SIZE_TOTAL: lease.reserved or 0, Resource.COUNT_UPLOADING: 1}

        async def work(transaction: Transaction) -> None:
            await _check(transaction, quota, more)
            values = {"image": lease.image_id, "now": self._now(), **formats}
            if not (await transaction.execute(statement, values)).count:
                status, _ = await _state(transaction, lease.image_id)
                if status == "queued":
                    raise Conflict(f"The formats of image {lease.image_id} have just changed.")
                raise StatusConflict(lease.image_id, status, "queued")
            await self._record(transaction, lease)

        await self._charged(quota, work)

    async def reserve(self, lease: Lease, quota: Quota, needed: int, step: int) -> int:
        size = Resource.SIZE_TOTAL

        async def work(transaction: Transaction) -> int:
            used = (await quotas.locked_usage(transaction, quota, (size,)))[size]
            before = await quotas.reserved(transaction, lease.id)
            if before is None:
                raise ImageGone(lease.image_id)
            granted = quota.grant(used - before, needed, step)
            if not await quotas.reserve(transaction, lease, granted):
                raise ImageGone(lease.image_id)
            return granted

        return await self._charged(quota, work)

    async def usage(self, project: str, resources: Sequence[Resource]) -> Usage:
        statement = quotas.usage_statement(tuple(resources))
        return await self._database.fetch(
            statement, {"project": project}, lambda found: quotas.to_usage(resources, found)
        )

    async def _charged(self, quota: Quota | None, work: Work[T]) -> T:
        """Run the transaction; the project's first one has to make the row that is locked."""
        try:
            return await self._database.run(work)
        except quotas.UnknownProject:
            assert quota is not None  # noqa: S101
            await self._meet(quota.project)
            return await self._database.run(work)

    async def _meet(self, project: str) -> None:
        with suppress(UniqueViolation):  # somebody else was faster
            await self._database.run(lambda t: t.execute(quotas.ADD_PROJECT, {"project": project}))

    async def finish_upload(self, lease: Lease, content: Content) -> None:
        async def work(transaction: Transaction) -> None:
            now = self._now()
            values = {"image": lease.image_id, "now": now, **_content(content)}
            if not (
                await lease_rows.end(transaction, lease)
                and (await transaction.execute(_FINISH_UPLOAD, values)).count
            ):
                raise ImageGone(lease.image_id)
            location = location_row(lease.image_id, content.location, now)
            await locations.ADD.execute(transaction, [location])
            if (detected := content.detected_format) is not None:
                note = {DETECTED_FORMAT: detected}
                await changes.write_properties(transaction, lease.image_id, note, now)

        await self._database.run(work)

    async def abandon_upload(self, lease: Lease) -> None:
        async def work(transaction: Transaction) -> None:
            if await lease_rows.end(transaction, lease):
                values = {"image": lease.image_id, "now": self._now()}
                await transaction.execute(_ABANDON_UPLOAD, values)

        await self._database.run(work)

    async def delete(
        self, image_id: str, lease: Lease, unless: Precondition | None = None
    ) -> Sequence[Location]:
        async def work(transaction: Transaction) -> Sequence[Location]:
            values = {"image": image_id, "now": self._now()}
            if unless is not None:
                unless(await _locked(transaction, image_id))
            if not (await transaction.execute(_DELETE, values)).count:
                await _state(transaction, image_id)
                raise Forbidden(f"Image {image_id} is protected and cannot be deleted.")
            present, *belongings = (await transaction.execute(_BELONGINGS, values)).rows[0]
            for any_of_these, statement in zip(belongings, _DELETE_CHILDREN, strict=True):
                if any_of_these:
                    await transaction.execute(statement, values)
            if found := to_locations(present):
                await self._record(transaction, lease)
            return found

        return await self._database.run(work)

    async def undelete(self, lease: Lease, image: Image) -> None:
        async def work(transaction: Transaction) -> None:
            values = {"image": image.id, "now": self._now(), "new_status": image.status.value}
            # The children first: they know by the image's own mark that they went with it.
            for statement in _RESTORE_CHILDREN:
                await transaction.execute(statement, values)
            await locations.rewrite(transaction, image.id)
            await transaction.execute(_UNDELETE, values)
            await lease_rows.end(transaction, lease)

        await self._database.run(work)

    async def deleted_locations(self, image_id: str) -> Sequence[Location]:
        return await self._database.fetch(
            _DELETED_LOCATIONS,
            {"image": image_id},
            lambda found: [to_location(*row) for row in found.rows],
        )

    async def lost_locations(self, image_id: str) -> Sequence[Location]:
        return await self._database.fetch(
            locations.LOST,
            {"image": image_id},
            lambda found: [to_location(*row) for row in found.rows],
        )

    async def forget_locations(self, lease: Lease) -> None:
        async def work(transaction: Transaction) -> None:
            if await lease_rows.end(transaction, lease):
                values = {"image": lease.image_id, "now": self._now()}
                await transaction.execute(locations.FORGET, values)

        await self._database.run(work)

    async def restore_locations(self, lease: Lease) -> None:
        async def work(transaction: Transaction) -> None:
            if await lease_rows.end(transaction, lease):
                values = {"image": lease.image_id, "now": self._now()}
                await transaction.execute(locations.RESTORE, values)
                await locations.rewrite(transaction, lease.image_id)

        await self._database.run(work)

    async def renew_leases(self, holder: str, seconds: float) -> None:
        until = self._later(seconds)
        await self._database.run(lambda transaction: lease_rows.renew(transaction, holder, until))

    async def leases(self) -> Sequence[tuple[Lease, datetime]]:
        return await self._database.fetch(
            lease_rows.ALL, {}, lambda found: [lease_rows.to_lease(row) for row in found.rows]
        )

    async def take_lease(self, lease: Lease, holder: str, seconds: float) -> bool:
        until = self._later(seconds)
        return await self._database.run(
            lambda transaction: lease_rows.take(transaction, lease, holder, until)
        )

    async def end_lease(self, lease: Lease) -> None:
        await self._database.run(lambda transaction: lease_rows.end(transaction, lease))

    async def _record(self, transaction: Transaction, lease: Lease) -> None:
        until = self._later(self._lease_seconds)
        await lease_rows.record(transaction, lease, self._now(), until)

    def _later(self, seconds: float) -> datetime:
        return self._now() + timedelta(seconds=seconds)


async def lock(transaction: Transaction, image_id: str) -> None:
    """Let nobody else change the image until the transaction ends; `ImageNotFound`."""
    if not (await transaction.execute(_LOCK, {"image": image_id})).rows:
        raise ImageNotFound(image_id)


async def _locked(transaction: Transaction, image_id: str, asking: str | None = None) -> Image:
    """Return the image, which nobody else changes until the transaction ends."""
    await lock(transaction, image_id)
    found = await transaction.execute(_GET, {"image": image_id, "asking": asking})
    return to_image(found.rows[0])


async def _marker_keys(transaction: Transaction, query: ImageQuery) -> Sequence[object]:
    """Return where the page begins; `Invalid` when the marker is no image of the list."""
    if query.marker is None:
        return ()
    statement = marker_statement(query.is_admin, query.project is not None, query.sort)
    keys = (await transaction.execute(statement, parameters_of(query))).rows
    if not keys:
        raise Invalid(
            f"No image found with ID {query.marker}: the marker is no image that can be listed."
        )
    return keys[0]


async def _state(transaction: Transaction, image_id: str) -> tuple[str, bool]:
    """Return the image's status and whether it is protected."""
    found = (await transaction.execute(_STATE, {"image": image_id})).rows
    if not found:
        raise ImageNotFound(image_id)
    status, protected = found[0]
    return status, protected


async def _check(transaction: Transaction, quota: Quota | None, more: Usage) -> None:
    """Raise `TooLarge` when the project would have too much of anything."""
    if quota is not None and (limited := quota.limited(more)):
        quota.check(await quotas.locked_usage(transaction, quota, limited), more)


def _stored(image: Image) -> int:
    return (image.size or 0) * len(image.locations)


def _to_images(found: Rows) -> Sequence[Image]:
    return [to_image(row) for row in found.rows]


def _formats(image: Image) -> dict[str, object]:
    return {"disk_format": image.disk_format, "container_format": image.container_format}


def _content(content: Content) -> Parameters:
    return {f"new_{name}": getattr(content, name) for name in _CONTENT}
