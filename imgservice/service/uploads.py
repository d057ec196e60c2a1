"""Store the data that clients send for images."""

from collections.abc import Mapping

from imgservice.domain.access import Access
from imgservice.domain.context import Context
from imgservice.domain.errors import Conflict
from imgservice.domain.image import Content, Image, Location, Status
from imgservice.domain.job import UPLOAD
from imgservice.domain.locations import check_formats
from imgservice.service.events import Events, ImageActivated
from imgservice.service.intake import Intake, Intakes, Upload
from imgservice.service.ports import DataStore, ImageRepository, StoreChoice
from imgservice.service.process_jobs import ProcessJobs
from imgservice.service.upload_jobs import UploadJobs
from imgservice.store.interface import CleanupPending


class UploadService:
    """Moves bytes into stores."""

    def __init__(
        self,
        images: ImageRepository,
        stores: StoreChoice,
        jobs: ProcessJobs,
        uploads: UploadJobs,
        intakes: Intakes,
        access: Access,
        events: Events,
    ) -> None:
        self._images = images
        self._stores = stores
        self._jobs = jobs
        self._uploads = uploads
        self._intakes = intakes
        self._access = access
        self._events = events

    async def upload(self, context: Context, image_id: str, source: Upload) -> None:
        """Store the data and make the image active; on any failure it is queued as before."""
        image = await self._images.get(image_id, context.project)
        self._access.require(context, "upload_image", image)
        store_id, store = self._stores.requested(source.store)
        self._check_ready(image, source)
        job = self._jobs.new(UPLOAD, image.id, store_id)
        async with self._uploads.begin(image, job, source.size) as upload:
            intake = await self._intakes.of_upload(upload, source)
            content = await self._receive(intake, store, self._stores.metadata(store_id))
        self._events.tell(ImageActivated(context=context, image=image.with_content(content)))

    def _check_ready(self, image: Image, source: Upload) -> None:
        if image.status is not Status.QUEUED:
            raise Conflict(f"Image status transition from {image.status} to saving is not allowed")
        check_formats(image)
        self._intakes.check_size(source.size or 0)

    async def _receive(
        self, intake: Intake, store: DataStore, metadata: Mapping[str, object]
    ) -> Content:
        try:
            added = await store.add(intake.job.image_id, intake.blocks(), intake.expected_size)
        except CleanupPending as error:
            await self._uploads.leave(intake, error)
            raise
        except BaseException:
            await self._uploads.give_up(intake)
            raise
        try:
            content = intake.content(Location(added.url, {**metadata, **added.metadata}))
            await self._uploads.finish(intake, content)
        except BaseException:
            await self._uploads.withdraw(intake, store, added.url)
            raise
        return content
