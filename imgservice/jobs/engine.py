"""The job engine: finds jobs that nobody runs, claims them, and runs their handlers."""

from collections import deque
from collections.abc import Mapping, Sequence

import attrs
from twisted.internet.defer import Deferred, gatherResults
from twisted.logger import Logger

from imgservice.domain.errors import ImageServiceError, NotConfigured, Unavailable
from imgservice.domain.job import LEASE_TIME, LONGEST_PAUSE, NOBODY, Job
from imgservice.jobs.expiry import LeaseExpiry, Marked
from imgservice.jobs.handlers import Handler
from imgservice.service.ports import JobRepository, LeaseOwner
from imgservice.service.process_jobs import JobRun, ProcessJobs

AT_ONCE = 4
"""Jobs that the engine of one process runs at the same time."""
MOST_READ = 500
"""Jobs that one statement reads."""
MOST_LEFT = 10 * MOST_READ
"""Jobs that are left to other nodes, and read beside the others."""

_log = Logger()


class JobEngine:
    """Finishes or undoes what was left: by processes that died, by us, or for a later attempt.

    One statement tells who owns leases. Only the jobs of those owners are read that are us, that
    are certainly dead, or that seem to renew their leases no more; jobs of the last ones are
    claimed when they have been watched for the whole time of a lease.
    """

    def __init__(
        self,
        handlers: Mapping[str, Handler],
        repository: JobRepository,
        jobs: ProcessJobs,
        owner: LeaseOwner,
        expiry: LeaseExpiry | None = None,
    ) -> None:
        """`handlers` are by kind; jobs of other kinds are left to other nodes."""
        self._handlers = handlers
        self._kinds = tuple(sorted(handlers))
        self._repository = repository
        self._jobs = jobs
        self._owner = owner
        self._expiry = expiry or LeaseExpiry(LEASE_TIME)
        self._queue: deque[Job] = deque()
        self._runners: set[Deferred[None]] = set()
        self._left_to_others: dict[str, float] = {}
        """Jobs that need what is not configured here, and when to look at them again."""
        self._done = 0
        self._is_retired = False

    async def poll(self) -> None:
        """Look for jobs and start to run them, a few at the same time."""
        found = await self._find()
        self._queue.clear()  # what the last poll has found, this one has found again
        if not self._is_retired:
            self._queue.extend(found)
        while self._queue and len(self._runners) < AT_ONCE:
            self._start_runner()

    async def heartbeat(self) -> None:
        """Renew the leases of all jobs that run in this process; call it four times in a lease."""
        await self._jobs.heartbeat()

    async def idle(self) -> None:
        """Wait until no job runs."""
        await gatherResults(list(self._runners))

    def retire(self) -> None:
        """Claim no more jobs; those that run go on."""
        self._is_retired = True
        self._queue.clear()

    async def stop(self) -> None:
        """Claim no more jobs, and wait for those that run."""
        self.retire()
        await self.idle()

    # -- finding ----------------------------------------------------------------------------------

    async def _find(self) -> Sequence[Job]:
        asked_at = self._expiry.clock()
        try:
            found, watched = await self._read()
        except Unavailable:
            self._expiry.forget()
            raise
        expired = self._expiry.expired(watched, asked_at)
        found += [job for job, _ in watched if job.id in expired]
        self._left_to_others = {
            job_id: until for job_id, until in self._left_to_others.items() if until > asked_at
        }
        return [job for job in found if job.id not in self._left_to_others]

    async def _read(self) -> tuple[list[Job], list[Marked]]:
        """Return the jobs to be run now, and those whose leases are to be watched."""
        found: list[Job] = []
        watched: list[Marked] = []
        for holding in await self._repository.holdings():
            if holding.owner == NOBODY:
                # Jobs that are left to other nodes are read first, and must not hide the others.
                left = min(len(self._left_to_others), MOST_LEFT)
                found += await self._repository.due(self._kinds, MOST_READ + left)
            elif holding.owner == self._owner.id:
                # What does not run has failed together with the database, or nobody knows it.
                found += [
                    job
                    for job, _ in await self._of(holding.owner)
                    if not self._jobs.is_running(job)
                ]
            elif self._owner.is_dead(holding.owner):
                found += [job for job, _ in await self._of(holding.owner)]
            elif not holding.is_renewed:
                watched += await self._of(holding.owner)
        return found, watched

    async def _of(self, owner: str) -> Sequence[Marked]:
        return await self._repository.owned(owner, self._kinds, MOST_READ)

    # -- running ----------------------------------------------------------------------------------

    def _start_runner(self) -> None:
        runner = Deferred.fromCoroutine(self._run_queue())
        self._runners.add(runner)
        runner.addErrback(lambda failure: _log.failure("The job engine failed", failure))
        runner.addCallback(lambda _: self._end_runner(runner))

    def _end_runner(self, runner: Deferred[None]) -> None:
        self._runners.discard(runner)
        if self._done and not self._runners:
            _log.info("Finished {done} background job(s)", done=self._done)
            self._done = 0

    async def _run_queue(self) -> None:
        while self._queue:
            try:
                await self._claim_and_run(self._queue.popleft())
            except Unavailable:
                return  # what is not available reports itself, and the next poll goes on

    async def _claim_and_run(self, job: Job) -> None:
        if self._jobs.is_running(job):
            return  # a poll has found it just before another runner began
        with self._jobs.run(job) as run:  # from now on no poll takes it for left over
            claimed = await self._repository.claim(job, self._owner.id)
            if claimed is not None:
                run.job = claimed
                await self._attempt(run, self._handlers[claimed.kind])

    async def _attempt(self, run: JobRun, handler: Handler) -> None:
        """Run the handler; a failure keeps neither the engine nor other jobs from going on."""
        job = run.job
        try:
            await handler.run(run)
        except NotConfigured:
            await self._leave_to_others(job)
        except ImageServiceError:
            await self._jobs.release(job)  # a store, perhaps, that cannot be reached now
        except Exception as error:
            await self._jobs.postpone(job, handler.describe(job), error)
        else:
            self._done += 1
            self._jobs.succeeded(job, handler.describe(job))

    async def _leave_to_others(self, job: Job) -> None:
        self._left_to_others[job.id] = self._expiry.clock() + LONGEST_PAUSE
        await self._repository.release(attrs.evolve(job, attempts=job.attempts - 1), 0.0)
