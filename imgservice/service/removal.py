"""Delete images and locations, and remove their data from the stores."""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

from imgservice.domain.errors import (
    Conflict,
    Forbidden,
    ImageServiceError,
    NotConfigured,
    NotFound,
)
from imgservice.domain.image import Image, Location, Precondition, Status
from imgservice.domain.job import DELETE, REMOVE, Job
from imgservice.domain.locations import check_readable
from imgservice.service.ports import RemovalRepository, StoreChoice
from imgservice.service.process_jobs import ProcessJobs


class RemovalService:
    """First the record goes, then the data, with a job between: so no data is left behind."""

    def __init__(self, images: RemovalRepository, stores: StoreChoice, jobs: ProcessJobs) -> None:
        self._images = images
        self._stores = stores
        self._jobs = jobs

    async def delete(self, image: Image, unless: Precondition | None = None) -> None:
        """Delete the image and its data; take it back when a store still needs the data.

        What lies in a store that is not configured here waits for a node that has it. Nobody but
        Glance knows where data lies whose location is encrypted: `Conflict`.
        """
        check_readable(image)
        job = self._jobs.new(DELETE, image.id)
        with self._jobs.run(job):
            locations = await self._images.delete(image.id, job, unless)
            await self._stop_uploads(image, job)
            if locations and await self._is_removed(
                self.remove(locations), lambda: self._images.undelete(job, image)
            ):
                await self._jobs.repository.end(job)

    async def _stop_uploads(self, image: Image, job: Job) -> None:
        if image.status is Status.SAVING:
            with suppress(ImageServiceError):  # without it, they end with their last byte
                await self._jobs.cancel(image.id, job)
        else:
            self._jobs.cancel_here(image.id)

    @contextmanager
    def losing_locations(self, image_id: str) -> Iterator[Job]:
        """Yield the job to be recorded with a loss of locations, for `remove_lost`.

        What is not removed when the block ends is left to the job engine.
        """
        job = self._jobs.new(REMOVE, image_id)
        with self._jobs.run(job):
            yield job

    async def remove_lost(self, job: Job) -> None:
        """Remove the data of the locations that the image lost.

        They come back when their store still needs the data: `Conflict`.
        """
        if await self._is_removed(
            self.remove_lost_data(job.image_id), lambda: self._images.restore_locations(job)
        ):
            await self._images.forget_locations(job)

    async def _is_removed(
        self, removal: Awaitable[None], take_back: Callable[[], Awaitable[bool]]
    ) -> bool:
        """Tell whether the data went; when a store still needs it, take its loss back and raise.

        When another process has the job by now, the loss is not taken back.
        """
        try:
            await removal
        except Conflict:
            if await take_back():
                raise
            return False
        except ImageServiceError:
            return False  # gone for clients; the job remains, to be tried again
        return True

    async def remove_lost_data(self, image_id: str) -> None:
        """Remove the data of the locations that the image lost; errors as of `remove`."""
        await self.remove(await self._images.lost_locations(image_id))

    async def remove(self, locations: Sequence[Location]) -> None:
        """Remove the data from all stores that are configured here.

        `NotConfigured` when others have some of it.
        """
        elsewhere: NotConfigured | None = None
        for location in locations:
            try:
                _, store = self._stores.holding(location)
            except NotConfigured as error:
                elsewhere = error
                continue
            with suppress(NotFound, Forbidden):  # what is only read here is not ours to remove
                await store.delete(location.url)
        if elsewhere is not None:
            raise elsewhere
