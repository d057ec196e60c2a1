"""The repository of images, of their uploads and of their removal."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from typing import TypeVar

import attrs
import sqlalchemy as sa

from imgservice.db.engine.database import Database, Rows, Transaction, UniqueViolation, Work
from imgservice.db.engine.inserts import Inserts
from imgservice.db.engine.statement import Statement
from imgservice.db.repositories import changes, jobs, locations, removals, uploads
from imgservice.db.repositories import quota as quotas
from imgservice.db.repositories.listing.shape import driven, parameters_of, shape_of
from imgservice.db.repositories.listing.statements import (
    count_statement,
    marker_statement,
    page_statement,
)
from imgservice.db.repositories.locking import GET, locked
from imgservice.db.repositories.pages import begin, long_images
from imgservice.db.repositories.rows import (
    IMAGE_COLUMNS,
    image_row,
    location_rows,
    property_rows,
    tag_rows,
    to_image,
    to_location,
    utc_now,
)
from imgservice.db.schema.tables import image_properties, images
from imgservice.domain.errors import DuplicateImage, ImageGone, ImageNotFound, Invalid
from imgservice.domain.image import Content, Image, Location, Precondition
from imgservice.domain.job import LEASE_TIME, Job
from imgservice.domain.query import ImagePage, ImageQuery
from imgservice.domain.quota import Quota, Resource, Usage

T = TypeVar("T")

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


class Images:
    """The repositories of images, uploads and removals, of a database shared with Glance or not.

    The lease of a job recorded here lives for `lease_time` seconds, unless it is renewed.
    """

    def __init__(
        self,
        database: Database,
        lease_time: float = LEASE_TIME,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._database = database
        self._lease_time = lease_time
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

    async def get(self, image_id: str, project: str | None = None) -> Image:
        found = await self._database.lookup(
            GET, {"image": image_id, "project": project}, _to_images
        )
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
        project: str | None = None,
        job: Job | None = None,
        quota: Quota | None = None,
    ) -> Image:
        async def work(transaction: Transaction) -> Image:
            if quota is not None:  # in the order in which uploads lock, too
                await quotas.lock(transaction, quota.project)
            before = await locked(transaction, image_id, project)
            after = change(before)
            if after is before:
                return before
            if (more := _stored(after) - _stored(before)) > 0:
                await _check(transaction, quota, {Resource.SIZE_TOTAL: more})
            now = self._now()
            lost = await changes.record(transaction, before, after, now)
            if lost and job is not None:
                await self._record(transaction, job)
            return attrs.evolve(after, updated_at=now)

        return await self._charged(quota, work)

    async def activate(self, image_id: str, content: Content, quota: Quota | None = None) -> None:
        async def work(transaction: Transaction) -> None:
            await _check(transaction, quota, {Resource.SIZE_TOTAL: content.size})
            await uploads.activate(transaction, image_id, content, self._now())

        await self._charged(quota, work)

    async def begin_upload(
        self, job: Job, seen: Image | None = None, quota: Quota | None = None
    ) -> None:
        more = {Resource.SIZE_TOTAL: job.reserved or 0, Resource.COUNT_UPLOADING: 1}

        async def work(transaction: Transaction) -> None:
            await _check(transaction, quota, more)
            await uploads.begin(transaction, job.image_id, seen, self._now())
            await self._record(transaction, job)

        await self._charged(quota, work)

    async def reserve(self, job: Job, quota: Quota, needed: int, step: int) -> int:
        size = Resource.SIZE_TOTAL

        async def work(transaction: Transaction) -> int:
            used = (await quotas.locked_usage(transaction, quota, (size,)))[size]
            before = await quotas.reserved(transaction, job.id)
            if before is None:
                raise ImageGone(job.image_id)
            granted = quota.grant(used - before, needed, step)
            if not await quotas.reserve(transaction, job, granted):
                raise ImageGone(job.image_id)
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

    async def finish_upload(self, job: Job, content: Content) -> None:
        await self._database.run(lambda t: uploads.finish(t, job, content, self._now()))

    async def abandon_upload(self, job: Job) -> None:
        await self._database.run(lambda t: uploads.abandon(t, job, self._now()))

    async def delete(
        self, image_id: str, job: Job, unless: Precondition | None = None
    ) -> Sequence[Location]:
        async def work(transaction: Transaction) -> Sequence[Location]:
            if unless is not None:
                unless(await locked(transaction, image_id))
            found = await removals.delete(transaction, image_id, self._now())
            if found:
                await self._record(transaction, job)
            return found

        return await self._database.run(work)

    async def undelete(self, job: Job, image: Image) -> bool:
        async def work(transaction: Transaction) -> bool:
            if not await jobs.end(transaction, job):
                return False
            await removals.undelete(transaction, image.id, image.status, self._now())
            return True

        return await self._database.run(work)

    async def deleted_locations(self, image_id: str) -> Sequence[Location]:
        return await self._locations(removals.DELETED_LOCATIONS, image_id)

    async def lost_locations(self, image_id: str) -> Sequence[Location]:
        return await self._locations(locations.LOST, image_id)

    async def _locations(self, statement: Statement, image_id: str) -> Sequence[Location]:
        return await self._database.fetch(
            statement, {"image": image_id}, lambda found: [to_location(*row) for row in found.rows]
        )

    async def forget_locations(self, job: Job) -> None:
        async def work(transaction: Transaction) -> None:
            if await jobs.end(transaction, job):
                values = {"image": job.image_id, "now": self._now()}
                await transaction.execute(locations.FORGET, values)

        await self._database.run(work)

    async def restore_locations(self, job: Job) -> bool:
        async def work(transaction: Transaction) -> bool:
            if not await jobs.end(transaction, job):
                return False
            values = {"image": job.image_id, "now": self._now()}
            await transaction.execute(locations.RESTORE, values)
            await locations.rewrite(transaction, job.image_id)
            return True

        return await self._database.run(work)

    async def _record(self, transaction: Transaction, job: Job) -> None:
        await jobs.record(transaction, job, self._now(), self._lease_time)


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


async def _check(transaction: Transaction, quota: Quota | None, more: Usage) -> None:
    """Raise `TooLarge` when the project would have too much of anything."""
    if quota is not None and (limited := quota.limited(more)):
        quota.check(await quotas.locked_usage(transaction, quota, limited), more)


def _stored(image: Image) -> int:
    return (image.size or 0) * len(image.locations)


def _to_images(found: Rows) -> Sequence[Image]:
    return [to_image(row) for row in found.rows]
