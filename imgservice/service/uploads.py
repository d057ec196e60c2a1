"""Give images their data: from a client, or by reading what a client has put elsewhere."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress

import attrs

from imgservice.domain.access import Access
from imgservice.domain.context import Context
from imgservice.domain.errors import Conflict, Invalid, NotFound, UnsupportedContent
from imgservice.domain.image import Content, Image, Location, Status
from imgservice.domain.job import LOCATION, UPLOAD, Job
from imgservice.domain.locations import Checksums, check_formats
from imgservice.domain.quota import Quota
from imgservice.service.events import Events, ImageActivated
from imgservice.service.hash_host import HashHost
from imgservice.service.intake import Intake, Intakes, Upload
from imgservice.service.ports import DataRepository, DataStore, StoreChoice
from imgservice.service.process_jobs import ProcessJobs
from imgservice.service.quota import Allowance, QuotaService, reservation

Guard = Callable[[AsyncGenerator[bytes, None]], AsyncIterator[bytes]]
"""Passes a stream on as long as its client waits for it, and raises after that."""


class UploadService:
    """Moves bytes into stores, and keeps the record true whatever happens.

    An upload is a job from before its first byte until its image is active or queued again. When
    its process dies, the job tells another one what to clean up.
    """

    def __init__(
        self,
        images: DataRepository,
        stores: StoreChoice,
        jobs: ProcessJobs,
        intakes: Intakes,
        hash_host: HashHost,
        access: Access,
        quotas: QuotaService,
        warn: Callable[[str], None],
        events: Events,
    ) -> None:
        """`warn` writes a line to the log."""
        self._images = images
        self._stores = stores
        self._jobs = jobs
        self._intakes = intakes
        self._hash_host = hash_host
        self._access = access
        self._quotas = quotas
        self._warn = warn
        self._events = events

    # -- from a client ----------------------------------------------------------------------------

    async def upload(self, context: Context, image_id: str, upload: Upload) -> None:
        """Store the data and make the image active; on any failure it is queued as before."""
        image = await self._images.get(image_id, context.project)
        self._access.require(context, "upload_image", image)
        store_id, store = self._stores.requested(upload.store)
        self._check_ready(image, upload)
        quota = await self._quotas.of(image.owner)
        job = _charged(self._jobs.new(UPLOAD, image.id, store_id), quota, upload.size)
        with self._intakes.share(), self._jobs.run(job) as run:
            await self._images.begin_upload(job, image, quota)
            allowance = Allowance(self._images, job, quota)
            intake = self._intakes.of_upload(image, upload, run, allowance)
            content = await self._receive(job, intake, store, self._stores.metadata(store_id))
        self._events.tell(ImageActivated(context=context, image=image.with_content(content)))

    def _check_ready(self, image: Image, upload: Upload) -> None:
        if image.status is not Status.QUEUED:
            raise Conflict(f"Image status transition from {image.status} to saving is not allowed")
        check_formats(image)
        self._intakes.check_size(upload.size or 0)

    async def _receive(
        self, job: Job, intake: Intake, store: DataStore, metadata: Mapping[str, object]
    ) -> Content:
        try:
            added = await store.add(job.image_id, intake.blocks(), intake.expected_size)
        except BaseException:
            await self._give_up(job, intake)
            raise
        try:
            location = Location(added.url, {**metadata, **added.metadata})
            content = intake.content(location)
            await self._finish(job, intake, content)
        except BaseException:
            await self._withdraw(job, store, added.url)
            raise
        return content

    async def _finish(self, job: Job, intake: Intake, content: Content) -> None:
        await self._images.finish_upload(job, content)
        if intake.remark is not None:
            self._warn(intake.remark)

    async def _give_up(self, job: Job, intake: Intake) -> None:
        """Let the image be queued again; there is no data of ours."""
        await intake.abandon()
        async with self._postponing(job):
            await self._images.abandon_upload(job)

    async def _withdraw(self, job: Job, store: DataStore, url: str) -> None:
        """Remove data that could not be recorded, and let the image be queued again.

        Without the lease nothing is touched. Either the record was made after all, and only the
        response to it was lost; or another node, for which we seemed dead, has cleaned up, and what
        now has the name of our data may be the data of a later upload.
        """
        async with self._postponing(job):
            if await self._jobs.repository.confirm(job):
                with suppress(NotFound):
                    await store.delete(url)
                await self._images.abandon_upload(job)

    @asynccontextmanager
    async def _postponing(self, job: Job) -> AsyncIterator[None]:
        """Leave a cleanup that fails to the job engine, so that the client learns the cause."""
        try:
            yield
        except Exception as error:
            await self._jobs.postpone(job, describe_cleanup(job), error)

    # -- from a location --------------------------------------------------------------------------

    async def adopt(
        self,
        image: Image,
        location: Location,
        store: DataStore,
        size: int,
        expected: Checksums,
        guard: Guard,
    ) -> Content:
        """Read what somebody else has put at the location, and make the image active with it.

        On any failure the image is queued as before; the data is never touched. `guard` gets the
        stream, and may end it.
        """
        quota = await self._quotas.of(image.owner)
        payload = self._hash_host.payload
        job = _charged(self._jobs.new(LOCATION, image.id, location.store, payload), quota, size)
        with self._intakes.share(), self._jobs.run(job) as run:
            await self._images.begin_upload(job, image, quota)
            # One byte more shows that there is more, without reading however much that is.
            source = Upload(lambda _: guard(store.read(location.url, 0, size + 1)), size)
            allowance = Allowance(self._images, job, quota)
            algorithm = expected.os_hash_algo
            intake = self._intakes.of_location(image, source, run, allowance, algorithm)
            return await self._read(job, intake, location, expected)

    async def _read(
        self, job: Job, intake: Intake, location: Location, expected: Checksums
    ) -> Content:
        try:
            async with self._hash_host.recorded(job.image_id):
                async for _ in intake.blocks():
                    pass  # the intake looks at it; nobody here wants the bytes
            content = intake.content(location)
            expected.compare(content)
            await self._finish(job, intake, content)
            return content
        except UnsupportedContent as error:
            await self._give_up(job, intake)
            raise Invalid(f"The data at the location is refused: {error.message}") from None
        except BaseException:
            await self._give_up(job, intake)
            raise


def describe_cleanup(job: Job) -> str:
    """Name, for the log, what is to be done when an upload ends early."""
    return f"Image {job.image_id}: cleanup after its {job.kind}"


def _charged(job: Job, quota: Quota | None, size: int | None) -> Job:
    """Return the job with the bytes of the quota that it reserves."""
    reserved = reservation(quota, size)
    if quota is None or reserved is None:
        return job
    return attrs.evolve(job, project=quota.project, reserved=reserved)
