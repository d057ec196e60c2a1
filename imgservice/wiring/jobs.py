"""The component that runs the job engine."""

from imgservice.concurrency.reactor import Clock
from imgservice.domain.job import LEASE_TIME
from imgservice.jobs.engine import JobEngine
from imgservice.process.periodic import PeriodicWork
from imgservice.troubles import Troubles

POLL_INTERVAL = 10.0


class BackgroundJobs:
    """Polls for jobs, and keeps the leases of those that run here, whether requests began them.

    Requests may still run when it stops no sooner than they: no other process may take their jobs.
    """

    def __init__(self, clock: Clock, engine: JobEngine, troubles: Troubles) -> None:
        self.engine = engine
        self._polls = PeriodicWork(clock, "Job polling", POLL_INTERVAL, engine.poll, troubles)
        self._heartbeats = PeriodicWork(
            clock, "Lease renewal", LEASE_TIME / 4, engine.heartbeat, troubles
        )

    def start(self) -> None:
        self._polls.start()
        self._heartbeats.start()

    def retire(self) -> None:
        self._polls.stop()
        self.engine.retire()

    async def stop(self) -> None:
        self._polls.stop()
        await self.engine.stop()
        self._heartbeats.stop()
