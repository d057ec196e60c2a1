"""Begin and end the jobs by which images get their data, from wherever it comes."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import attrs

from imgservice.domain.errors import NotFound
from imgservice.domain.image import Content, Image
from imgservice.domain.job import Job
from imgservice.domain.quota import Quota
from imgservice.service.intake import Intake, Intakes, UploadRun
from imgservice.service.ports import DataStore, UploadRepository
from imgservice.service.process_jobs import ProcessJobs
from imgservice.service.quota import Allowance, QuotaService, reservation
from imgservice.store.interface import CleanupPending


class UploadJobs:
    """Keeps the record of an image true while it gets its data, whatever happens.

    There is a job from before the first byte until the image is active or queued again. When the
    process dies, the job tells another one what to clean up.
    """

    def __init__(
        self,
        images: UploadRepository,
        jobs: ProcessJobs,
        intakes: Intakes,
        quotas: QuotaService,
        warn: Callable[[str], None],
    ) -> None:
        """`warn` writes a line to the log."""
        self._images = images
        self._jobs = jobs
        self._intakes = intakes
        self._quotas = quotas
        self._warn = warn

    @asynccontextmanager
    async def begin(self, image: Image, job: Job, size: int | None) -> AsyncIterator[UploadRun]:
        """Turn the image to saving, and keep the lease of the new job while the block runs.

        The block ends with `finish`, `give_up`, `leave` or `withdraw`.
        """
        quota = await self._quotas.of(image.owner)
        charged = _charged(job, quota, size)
        with self._intakes.share(), self._jobs.run(charged) as run:
            await self._images.begin_upload(charged, image, quota)
            yield UploadRun(image, run, Allowance(self._images, charged, quota))

    async def finish(self, intake: Intake, content: Content) -> None:
        """Make the image active."""
        await self._images.finish_upload(intake.job, content)
        if intake.remark is not None:
            self._warn(intake.remark)

    async def give_up(self, intake: Intake) -> None:
        """Let the image be queued again; there is no data of ours."""
        await intake.abandon()
        async with self._postponing(intake.job):
            await self._images.abandon_upload(intake.job)

    async def leave(self, intake: Intake, error: CleanupPending) -> None:
        """Let the job engine remove what the store could not, and the image be queued then."""
        await intake.abandon()
        await self._jobs.postpone(intake.job, describe_cleanup(intake.job), error)

    async def withdraw(self, intake: Intake, store: DataStore, url: str) -> None:
        """Remove data that could not be recorded, and let the image be queued again.

        Without the lease nothing is touched. Either the record was made after all, and only the
        response to it was lost; or another node, for which we seemed dead, has cleaned up, and what
        now has the name of our data may be the data of a later upload.
        """
        async with self._postponing(intake.job):
            if await self._jobs.repository.confirm(intake.job):
                with suppress(NotFound):
                    await store.delete(url)
                await self._images.abandon_upload(intake.job)

    @asynccontextmanager
    async def _postponing(self, job: Job) -> AsyncIterator[None]:
        """Leave a cleanup that fails to the job engine, so that the client learns the cause."""
        try:
            yield
        except Exception as error:
            await self._jobs.postpone(job, describe_cleanup(job), error)


def describe_cleanup(job: Job) -> str:
    """Name, for the log, what is to be done when an upload ends early."""
    return f"Image {job.image_id}: cleanup after its {job.kind}"


def _charged(job: Job, quota: Quota | None, size: int | None) -> Job:
    """Return the job with the bytes of the quota that it reserves."""
    reserved = reservation(quota, size)
    if quota is None or reserved is None:
        return job
    return attrs.evolve(job, project=quota.project, reserved=reserved)
