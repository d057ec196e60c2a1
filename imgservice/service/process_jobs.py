"""The jobs that run in this process, whether a request or the job engine began them."""

import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress

import attrs

from imgservice.domain.errors import ImageServiceError
from imgservice.domain.job import Job, pause_after
from imgservice.service.ports import JobRepository, LeaseOwner


@attrs.define
class JobRun:
    """A job under way in this process."""

    job: Job
    is_cancelled: bool
    """Whether to stop, since the image was deleted: look at it between two pieces of work."""


class ProcessJobs:
    """Knows which jobs run here, keeps their leases, and hands over those that failed.

    A job with a lease of this process that does not run is left over: its outcome could not be
    recorded, or nobody knows whether it was. The job engine finds such jobs in the database.
    """

    def __init__(
        self, repository: JobRepository, owner: LeaseOwner, warn: Callable[[str], None]
    ) -> None:
        """`warn` writes a line to the log."""
        self.repository = repository
        self._owner = owner
        self._warn = warn
        self._runs: dict[str, JobRun] = {}

    def new(
        self,
        kind: str,
        image_id: str,
        store: str | None = None,
        payload: Mapping[str, object] | None = None,
    ) -> Job:
        """Return a job of this process, which is still to be recorded."""
        return Job(str(uuid.uuid4()), kind, image_id, self._owner.id, store, payload=payload or {})

    @contextmanager
    def run(self, job: Job) -> Iterator[JobRun]:
        """Keep the lease of the job while the block runs; the job may be recorded in it."""
        run = self._runs[job.id] = JobRun(job, job.is_cancelled)
        try:
            yield run
        finally:
            del self._runs[job.id]

    def is_running(self, job: Job) -> bool:
        return job.id in self._runs

    async def cancel(self, image_id: str, by: Job) -> None:
        """Let all other work on the image stop, in whatever process it runs."""
        self.cancel_here(image_id)
        await self.repository.cancel(image_id, by)

    def cancel_here(self, image_id: str) -> None:
        """Let the work on the image stop that runs in this process."""
        for run in self._runs.values():
            if run.job.image_id == image_id:
                run.is_cancelled = True

    async def heartbeat(self) -> None:
        """Renew our leases and learn which jobs are cancelled; call it several times in a lease."""
        if not self._runs:
            return
        for job_id in await self.repository.renew(self._owner.id):
            if job_id in self._runs:
                self._runs[job_id].is_cancelled = True

    async def postpone(self, job: Job, what: str, error: Exception) -> None:
        """Log that `what` failed, once for each reason, and let any process try it again.

        When not even that can be recorded, the job is left over.
        """
        reason = _reason(error)
        if job.error != reason:
            self._warn(f"{what} postponed: {reason}")
        with suppress(Exception):
            await self.release(attrs.evolve(job, error=reason))

    async def release(self, job: Job) -> None:
        """Let any process claim the job after a pause that grows with each attempt."""
        tried = attrs.evolve(job, attempts=max(1, job.attempts))
        await self.repository.release(tried, pause_after(tried.attempts))

    def succeeded(self, job: Job, what: str) -> None:
        """Log that what was postponed has succeeded."""
        if job.error is not None:
            self._warn(f"{what} done")


def _reason(error: Exception) -> str:
    # The text of a database's own error may hold a location with credentials.
    return error.message if isinstance(error, ImageServiceError) else type(error).__name__
