"""What to do with a job that a process has left: one class for each kind.

To add a kind, write a class here and add it to the table in `wiring/services.py`.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

from imgservice.domain.errors import Invalid, NotConfigured
from imgservice.domain.job import DELETE, LOCATION, REMOVE, UPLOAD, Job
from imgservice.service.hash_host import HashHost
from imgservice.service.ports import JobRepository, RemovalRepository, StoreChoice, UploadRepository
from imgservice.service.process_jobs import JobRun
from imgservice.service.removal import RemovalService
from imgservice.service.upload_jobs import describe_cleanup


class Handler(Protocol):
    """Finishes or undoes the jobs of one kind."""

    @property
    def kind(self) -> str:
        """The `kind` of these jobs."""

    async def run(self, run: JobRun) -> None:
        """Do the work and end the job, with a write that is conditional on its lease.

        The job is ours, and its lease is kept meanwhile. `NotConfigured` leaves it to another node;
        after any other exception it is tried again later, here or elsewhere, however often. So do
        nothing that may not be done twice, and end a job that can never succeed, for example
        because its image is gone. Work that takes long stops soon after `run.is_cancelled` is set.
        """

    def describe(self, job: Job) -> str:
        """Name the work in the log, as in "... postponed" and "... done"."""


class UploadCleanup:
    """Removes what a store has of an upload, and lets the image be queued again."""

    kind = UPLOAD

    def __init__(self, uploads: UploadRepository, stores: StoreChoice) -> None:
        self._uploads = uploads
        self._stores = stores

    async def run(self, run: JobRun) -> None:
        try:
            _, store = self._stores.chosen(run.job.store)
        except Invalid as error:
            raise NotConfigured(error.message) from None
        await store.discard(run.job.image_id)
        await self._uploads.abandon_upload(run.job)

    def describe(self, job: Job) -> str:
        return describe_cleanup(job)


class LocationCleanup:
    """Lets an image be queued again whose location was being read; the data is not ours."""

    kind = LOCATION

    def __init__(self, uploads: UploadRepository, hash_host: HashHost) -> None:
        self._uploads = uploads
        self._hash_host = hash_host

    async def run(self, run: JobRun) -> None:
        await self._hash_host.clear_for(run.job)
        await self._uploads.abandon_upload(run.job)

    def describe(self, job: Job) -> str:
        return describe_cleanup(job)


class ImageRemoval:
    """Removes the data of a deleted image."""

    kind = DELETE

    def __init__(
        self, images: RemovalRepository, removal: RemovalService, jobs: JobRepository
    ) -> None:
        self._images = images
        self._removal = removal
        self._jobs = jobs

    async def run(self, run: JobRun) -> None:
        await self._removal.remove(await self._images.deleted_locations(run.job.image_id))
        await self._jobs.end(run.job)

    def describe(self, job: Job) -> str:
        return f"Image {job.image_id}: removal of its data"


class LocationRemoval:
    """Removes the data of locations that an image has lost."""

    kind = REMOVE

    def __init__(self, images: RemovalRepository, removal: RemovalService) -> None:
        self._images = images
        self._removal = removal

    async def run(self, run: JobRun) -> None:
        await self._removal.remove_lost_data(run.job.image_id)
        await self._images.forget_locations(run.job)

    def describe(self, job: Job) -> str:
        return f"Image {job.image_id}: removal of data at former locations"


def handler_table(handlers: Sequence[Handler]) -> Mapping[str, Handler]:
    """Return the handlers by the kind of their jobs."""
    return {handler.kind: handler for handler in handlers}
