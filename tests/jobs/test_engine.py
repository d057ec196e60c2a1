"""Which jobs the engine runs, when, and what becomes of those that fail."""

import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

import attrs
import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.defer import Deferred

from imgservice.db.engine.database import Database, Rows
from imgservice.db.engine.statement import Parameters, Statement
from imgservice.db.repositories.jobs import Jobs
from imgservice.domain.errors import Conflict, NotConfigured, Unavailable
from imgservice.domain.job import LEASE_TIME, LONGEST_PAUSE, NOBODY, Job
from imgservice.jobs.engine import AT_ONCE, MOST_READ, JobEngine
from imgservice.jobs.expiry import LeaseExpiry
from imgservice.jobs.handlers import handler_table
from imgservice.service.ports import JobRepository
from imgservice.service.process_jobs import JobRun, ProcessJobs
from tests.contract.test_repository import Clock, clock, new_job, recorded
from tests.db.numbers import until
from tests.sqlite import database, database_url, sqlite_url

__all__ = ["clock", "database", "database_url", "sqlite_url"]  # fixtures


T = TypeVar("T")


@attrs.define
class Owner:
    """This process, and those that are certainly dead."""

    id: str = "us"
    dead: frozenset[str] = frozenset({"dead"})

    def is_dead(self, owner: str) -> bool:
        return owner in self.dead


class Handler:
    """Ends jobs, unless it is told otherwise."""

    kind = "upload"

    def __init__(self, repository: JobRepository) -> None:
        self.repository = repository
        self.ran: list[Job] = []
        self.cancelled: list[bool] = []
        self.error: Exception | None = None
        self.gate: Deferred[None] | None = None

    async def run(self, run: JobRun) -> None:
        job = run.job
        self.ran.append(job)
        self.cancelled.append(run.is_cancelled)
        if self.gate is not None:
            await self._passed()
        if self.error is not None:
            raise self.error
        await self.repository.end(job)

    async def _passed(self) -> None:
        waiting: Deferred[None] = Deferred()
        assert self.gate is not None
        self.gate.addCallback(lambda _: waiting.callback(None))
        await waiting

    def describe(self, job: Job) -> str:
        return f"Work on {job.image_id}"


class World:
    """An engine, whose clocks are moved by the test."""

    def __init__(self, repository: JobRepository, clock: Clock) -> None:
        self.repository = repository
        self.clock = clock
        self.monotonic = 1000.0
        self.told: list[str] = []
        self.handler = Handler(repository)
        owner = Owner()
        self.process = ProcessJobs(repository, owner, self.told.append)
        expiry = LeaseExpiry(LEASE_TIME, lambda: self.monotonic)
        table = handler_table([self.handler])
        self.engine = JobEngine(table, repository, self.process, owner, expiry)

    async def add(self, owner: str, **values: Any) -> Job:
        job = new_job(str(uuid.uuid4()), owner=owner, **values)
        await self.repository.add(job)
        return job

    async def poll(self) -> list[Job]:
        """Poll; return the jobs that were run."""
        before = len(self.handler.ran)
        await self.engine.poll()
        await self.engine.idle()
        return self.handler.ran[before:]

    def pass_time(self, seconds: float) -> None:
        self.monotonic += seconds
        self.clock.time += timedelta(seconds=seconds)


@pytest.fixture
def world(database: Database, clock: Clock) -> World:
    return World(Jobs(database, now=lambda: clock.time), clock)


@ensureDeferred
async def test_jobs_of_a_dead_process_are_run_at_once(world: World) -> None:
    job = await world.add("dead")
    assert await world.poll() == [attrs.evolve(job, owner="us", attempts=1)]
    assert await recorded(world.repository) == []


@ensureDeferred
async def test_our_jobs_are_run_when_nothing_else_runs_them(world: World) -> None:
    running, left = await world.add("us"), await world.add("us")
    with world.process.run(running):
        assert [job.id for job in await world.poll()] == [left.id]
        assert await recorded(world.repository) == [running]


@ensureDeferred
async def test_a_lease_that_nobody_renews_is_watched_first(world: World) -> None:
    job = await world.add("elsewhere")
    polls = 0
    while not (ran := await world.poll()):
        world.pass_time(10)
        polls += 1
    assert [one.id for one in ran] == [job.id]
    # Half of its time a lease counts as renewed, then it is watched for all of it.
    assert LEASE_TIME < polls * 10 <= LEASE_TIME * 3 / 2 + 20


@ensureDeferred
async def test_renewed_leases_never_expire(world: World) -> None:
    await world.add("elsewhere")
    for _ in range(60):
        assert await world.poll() == []
        world.pass_time(10)
        await world.repository.renew("elsewhere")


@pytest.mark.parametrize("step", [86_400, -86_400], ids=["forward", "back"])
@ensureDeferred
async def test_no_wall_clock_takes_or_hides_a_lease(world: World, step: float) -> None:
    """Whether the clock that is set is ours or the owner's."""
    live, dead = await world.add("live"), await world.add("lost")
    world.clock.time += timedelta(seconds=step)
    ran: list[Job] = []
    for _ in range(15):
        ran += await world.poll()
        world.pass_time(10)
        await world.repository.renew("live")
    assert [one.id for one in ran] == [dead.id]
    assert await recorded(world.repository) == [live]


@ensureDeferred
async def test_kinds_that_are_not_known_are_left(world: World) -> None:
    for owner in ("dead", "us", NOBODY):
        await world.add(owner, kind="of the future")
    before = await recorded(world.repository)
    assert await world.poll() == []
    assert await recorded(world.repository) == before


@ensureDeferred
async def test_a_failure_is_told_once_and_tried_again_later(world: World) -> None:
    job = await world.add("dead")
    world.handler.error = KeyError("secret")
    waits = [await _seconds_until_run(world) for _ in range(5)]
    assert waits == [0, 1, 2, 4, 8]
    assert [ran.attempts for ran in world.handler.ran] == [1, 2, 3, 4, 5]
    [failed] = await recorded(world.repository)
    assert (failed.owner, failed.error) == (NOBODY, "KeyError")
    said = f"Work on {job.image_id}"
    assert world.told == [f"{said} postponed: KeyError"]
    world.handler.error = None
    world.pass_time(LONGEST_PAUSE)
    assert len(await world.poll()) == 1
    assert world.told[1:] == [f"{said} done"]
    assert await recorded(world.repository) == []


async def _seconds_until_run(world: World) -> int:
    seconds = 0
    while not await world.poll():
        world.pass_time(1)
        seconds += 1
    return seconds


@pytest.mark.parametrize("error", [Conflict("in use"), Unavailable("away")], ids=str)
@ensureDeferred
async def test_what_a_store_refuses_is_tried_again_silently(world: World, error: Exception) -> None:
    await world.add("dead")
    world.handler.error = error
    assert len(await world.poll()) == 1
    world.handler.error = None
    assert await _seconds_until_run(world) == 1
    assert world.told == []


@ensureDeferred
async def test_a_failure_keeps_no_other_job_waiting(world: World) -> None:
    jobs = [await world.add("dead") for _ in range(3 * AT_ONCE)]
    world.handler.error = KeyError()
    assert {ran.id for ran in await world.poll()} == {job.id for job in jobs}


@ensureDeferred
async def test_what_is_not_configured_here_is_left_to_others(
    world: World, database: Database
) -> None:
    job = await world.add("dead")
    world.handler.error = NotConfigured("no such store")
    assert len(await world.poll()) == 1
    for _ in range(int(LONGEST_PAUSE / 10)):
        assert await world.poll() == []
        world.pass_time(10)
        waiting = attrs.evolve(job, owner=NOBODY)
        assert list(await world.repository.due(["upload"], 9)) == [waiting]
    world.handler.error = None
    world.pass_time(10)
    assert len(await world.poll()) == 1
    assert world.told == []


@ensureDeferred
async def test_jobs_that_are_left_to_others_do_not_hide_the_rest(world: World) -> None:
    for _ in range(MOST_READ):
        await world.add(NOBODY)
    world.handler.error = NotConfigured("There is no such store here.")
    assert len(await world.poll()) == MOST_READ
    world.pass_time(1)
    job = await world.add(NOBODY)
    world.handler.error = None
    assert [one.id for one in await world.poll()] == [job.id]


@ensureDeferred
async def test_a_few_jobs_run_at_the_same_time(world: World) -> None:
    for _ in range(3 * AT_ONCE):
        await world.add("dead")
    world.handler.gate = Deferred()
    await world.engine.poll()
    await until(lambda: len(world.handler.ran) == AT_ONCE)
    await world.engine.poll()
    claimed = [job for job in await recorded(world.repository) if job.owner == "us"]
    assert len(claimed) == len(world.handler.ran) == AT_ONCE
    world.handler.gate.callback(None)
    await world.engine.idle()
    assert len(world.handler.ran) == 3 * AT_ONCE


@ensureDeferred
async def test_who_retires_claims_no_more(world: World) -> None:
    for _ in range(2 * AT_ONCE):
        await world.add("dead")
    world.handler.gate = Deferred()
    await world.engine.poll()
    await until(lambda: len(world.handler.ran) == AT_ONCE)
    world.engine.retire()
    world.handler.gate.callback(None)
    await world.engine.stop()
    await world.engine.poll()
    assert len(world.handler.ran) == AT_ONCE
    assert {job.owner for job in await recorded(world.repository)} == {"dead"}


@ensureDeferred
async def test_leases_are_kept_while_jobs_run(world: World) -> None:
    await world.add("dead")
    world.handler.gate = Deferred()
    await world.engine.poll()
    await until(lambda: bool(world.handler.ran))
    for _ in range(20):
        world.pass_time(15)
        await world.engine.heartbeat()
        assert [one.is_renewed for one in await world.repository.holdings()] == [True]
    world.handler.gate.callback(None)
    await world.engine.stop()


@ensureDeferred
async def test_a_heartbeat_learns_of_cancelled_jobs(world: World) -> None:
    job, other = await world.add("us"), await world.add("us")
    deletion = new_job(job.image_id, kind="delete", owner="elsewhere")
    with world.process.run(job) as run, world.process.run(other) as other_run:
        await world.engine.heartbeat()
        assert not run.is_cancelled
        await world.repository.cancel(job.image_id, deletion)
        await world.engine.heartbeat()
        assert (run.is_cancelled, other_run.is_cancelled) == (True, False)


@ensureDeferred
async def test_who_takes_a_job_over_knows_that_it_is_cancelled(world: World) -> None:
    job = await world.add("dead")
    await world.repository.cancel(job.image_id, new_job(job.image_id, kind="delete"))
    await world.poll()
    assert world.handler.cancelled == [True]


class Counting:
    """A database that notes what it is asked."""

    def __init__(self, inner: Database) -> None:
        self._inner = inner
        self.read: list[int] = []

    async def fetch(
        self, statement: Statement, parameters: Parameters, convert: Callable[[Rows], T]
    ) -> T:
        def counted(found: Rows) -> T:
            self.read.append(len(found.rows))
            return convert(found)

        return await self._inner.fetch(statement, parameters, counted)


@ensureDeferred
async def test_a_poll_reads_one_row_for_each_process_that_works(
    world: World, database: Database, clock: Clock
) -> None:
    counting = Counting(database)
    quiet = World(Jobs(counting, now=lambda: clock.time), clock)  # type: ignore[arg-type]
    await quiet.engine.poll()
    assert counting.read == [0]
    for number in range(60):
        await world.add(f"process {number % 3}")
    await quiet.engine.poll()
    assert counting.read == [0, 3]
