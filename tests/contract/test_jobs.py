"""What every database must make of the promises about jobs and their leases."""

import uuid
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import attrs
import pytest_twisted
import sqlalchemy as sa

from imgservice.db.engine.database import Database
from imgservice.db.repositories.images import Images
from imgservice.db.schema.tables import leases
from imgservice.domain.image import Location, Status
from imgservice.domain.job import LONGEST_PAUSE, NOBODY, Job, pause_after
from imgservice.service.ports import JobRepository
from tests.contract.databases import database, database_url, sqlite_url
from tests.contract.test_repository import (
    CONTENT,
    KINDS,
    Clock,
    added,
    clock,
    jobs,
    new_job,
    outcomes,
    read,
    recorded,
    repository,
    write,
)

__all__ = [
    "clock", "database", "database_url", "jobs", "repository", "sqlite_url",
]  # fixtures  # fmt: skip

PAYLOAD = {"text": 'ü"', "number": 2**53, "list": [1.5, None, True], "map": {"a": {}}}


async def new(jobs: JobRepository, **values: Any) -> Job:
    job = new_job(str(uuid.uuid4()), **values)
    await jobs.add(job)
    return job


async def waiting(jobs: JobRepository, pause: float = 0.0, **values: Any) -> Job:
    """Make a job that has no owner, and waits."""
    job = await new(jobs, **values)
    assert await jobs.release(job, pause)
    return attrs.evolve(job, owner=NOBODY)


async def due(jobs: JobRepository, kinds: Sequence[str] = KINDS) -> list[Job]:
    return list(await jobs.due(kinds, 100))


@pytest_twisted.ensureDeferred
async def test_a_job_is_read_as_it_was_recorded(jobs: JobRepository) -> None:
    plain = await new(jobs)
    full = await new(
        jobs, kind="location", store=None, project="ours", reserved=2**40, payload=PAYLOAD,
        attempts=3, error="why", is_cancelled=True,
    )  # fmt: skip
    assert await recorded(jobs) == [plain, full]
    assert await jobs.end(plain)
    assert not await jobs.end(plain)
    assert await recorded(jobs) == [full]


@pytest_twisted.ensureDeferred
async def test_a_renewal_changes_the_marks_of_one_owner(jobs: JobRepository, clock: Clock) -> None:
    lost, kept = [await new(jobs, owner=owner) for owner in ("node-1", "node-2")]

    async def marks() -> dict[Job, object]:
        return dict([*await jobs.owned("node-1", KINDS, 9), *await jobs.owned("node-2", KINDS, 9)])

    before = await marks()
    clock.time += timedelta(seconds=15)
    assert await jobs.renew("node-2") == set()
    after = await marks()
    assert [before[each] == after[each] for each in (lost, kept)] == [True, False]


@pytest_twisted.ensureDeferred
async def test_one_of_many_claims_a_job(jobs: JobRepository, clock: Clock) -> None:
    job = await new(jobs)
    clock.time += timedelta(hours=1)
    owners = [f"node-{number}" for number in range(2, 8)]
    results = await outcomes(*(jobs.claim(job, owner) for owner in owners))
    [winner] = [owner for owner, result in zip(owners, results, strict=True) if result]
    claimed = attrs.evolve(job, owner=winner, attempts=1)
    assert claimed in results
    assert await recorded(jobs) == [claimed]
    assert not await jobs.end(job)
    assert await jobs.end(claimed)
    assert await recorded(jobs) == []


@pytest_twisted.ensureDeferred
async def test_whoever_has_lost_a_job_changes_nothing(jobs: JobRepository) -> None:
    job = await new(jobs)
    assert await jobs.confirm(job)
    claimed = await jobs.claim(job, "node-2")
    assert claimed is not None
    assert not await jobs.confirm(job)
    assert not await jobs.release(job, 0.0)
    assert not await jobs.end(job)
    assert await jobs.claim(job, "node-3") is None
    assert await recorded(jobs) == [claimed]


@pytest_twisted.ensureDeferred
async def test_our_own_job_is_claimed_for_another_attempt(jobs: JobRepository) -> None:
    job = await new(jobs)
    again = await jobs.claim(job, job.owner)
    assert again == attrs.evolve(job, attempts=1)
    assert await recorded(jobs) == [again]


@pytest_twisted.ensureDeferred
async def test_a_released_job_waits_for_its_time(jobs: JobRepository, clock: Clock) -> None:
    job = await new(jobs, attempts=4, payload=PAYLOAD)
    assert await jobs.release(attrs.evolve(job, error="OperationalError"), 60)
    assert await due(jobs) == []
    clock.time += timedelta(seconds=60)
    [found] = await due(jobs)
    assert found == attrs.evolve(job, owner=NOBODY, error="OperationalError")
    claimed = await jobs.claim(found, "node-2")
    assert claimed == attrs.evolve(found, owner="node-2", attempts=5)
    assert await due(jobs) == []
    assert await recorded(jobs) == [claimed]


@pytest_twisted.ensureDeferred
async def test_no_clock_makes_a_retry_wait_forever(jobs: JobRepository, clock: Clock) -> None:
    """The time of the next attempt was recorded while a clock was a day ahead."""
    clock.time += timedelta(days=1)
    job = await waiting(jobs, 60, attempts=1)
    scheduled = await waiting(jobs, 60)
    clock.time -= timedelta(days=1)
    assert await due(jobs) == [job]
    clock.time += timedelta(days=2)
    assert await due(jobs) == [job, scheduled]


@pytest_twisted.ensureDeferred
async def test_some_of_the_due_jobs_those_that_waited_longest(
    jobs: JobRepository, clock: Clock
) -> None:
    made = [await waiting(jobs) for _ in range(5)]
    clock.time += timedelta(seconds=1)
    assert list(await jobs.due(KINDS, 3)) == made[:3]


@pytest_twisted.ensureDeferred
async def test_other_kinds_are_left(jobs: JobRepository, clock: Clock) -> None:
    upload = await waiting(jobs)
    other = await waiting(jobs, kind="of the future")
    owned = await new(jobs, kind="of the future")
    clock.time += timedelta(seconds=1)
    assert await due(jobs) == [upload]
    assert await due(jobs, ["of the future"]) == [other]
    assert list(await jobs.owned(owned.owner, KINDS, 9)) == []
    assert [one.owner for one in await jobs.holdings()] == [NOBODY, owned.owner]


@pytest_twisted.ensureDeferred
async def test_owned_jobs_are_read_in_their_order_and_number(jobs: JobRepository) -> None:
    made = [await new(jobs) for _ in range(5)]
    assert [job for job, _ in await jobs.owned("node-1", KINDS, 3)] == made[:3]


@pytest_twisted.ensureDeferred
async def test_holdings_tell_who_does_not_renew(jobs: JobRepository, clock: Clock) -> None:
    async def renewed() -> dict[str, bool]:
        return {one.owner: one.is_renewed for one in await jobs.holdings()}

    assert await renewed() == {}
    for owner in ("dead", "live", "live"):
        await new(jobs, owner=owner)
    assert await renewed() == {"dead": True, "live": True}
    clock.time += timedelta(seconds=40)
    await jobs.renew("live")
    assert await renewed() == {"dead": False, "live": True}
    clock.time -= timedelta(days=1)
    assert await renewed() == {"dead": False, "live": False}  # one of the clocks is wrong
    await jobs.renew("live")
    assert await renewed() == {"dead": False, "live": True}


@pytest_twisted.ensureDeferred
async def test_one_lease_that_is_not_renewed_shows_among_many(
    jobs: JobRepository, database: Database
) -> None:
    one, _ = await new(jobs), await new(jobs)
    change = sa.update(leases).where(leases.c.id == one.id)
    await write(database, change.values(expires_at=leases.c.created_at))
    [holding] = await jobs.holdings()
    assert not holding.is_renewed


@pytest_twisted.ensureDeferred
async def test_work_on_an_image_is_cancelled(jobs: JobRepository) -> None:
    image_id = str(uuid.uuid4())
    here, there, other = [
        new_job(image_id, owner="node-1"),
        new_job(image_id, owner="node-2"),
        new_job(str(uuid.uuid4()), owner="node-1"),
    ]
    deletion = new_job(image_id, kind="delete", owner="node-1")
    for job in (here, there, other, deletion):
        await jobs.add(job)
    await jobs.cancel(image_id, deletion)
    assert await jobs.renew("node-1") == {here.id}
    assert await jobs.renew("node-2") == {there.id}


@pytest_twisted.ensureDeferred
async def test_rows_know_when_jobs_were_made(repository: Images, database: Database) -> None:
    await repository.begin_upload(new_job((await added(repository)).id))
    ((made, expires),) = await read(database, sa.select(leases.c.created_at, leases.c.expires_at))
    assert abs((expires - made).total_seconds() - 60) < 5


@pytest_twisted.ensureDeferred
async def test_a_node_of_the_former_version_records_jobs(
    jobs: JobRepository, database: Database, clock: Clock
) -> None:
    """It knows nothing of the columns that came later."""
    old = ("id", "kind", "image_id", "holder", "created_at", "expires_at")
    values = dict(zip(old, ("a", "upload", "b", "old", clock(), clock()), strict=True))
    insert = sa.insert(leases).values(values)
    await write(database, insert)
    assert await recorded(jobs) == [Job("a", "upload", "b", "old")]
    claimed = await jobs.claim(Job("a", "upload", "b", "old"), "new")
    assert claimed == Job("a", "upload", "b", "new", attempts=1)
    assert await jobs.renew("new") == set()


@pytest_twisted.ensureDeferred
async def test_whoever_has_lost_a_removal_takes_nothing_back(
    repository: Images, jobs: JobRepository
) -> None:
    """Another node may have removed the data already."""
    image = await added(repository, status=Status.ACTIVE, locations=(CONTENT.location,))
    job = new_job(image.id, kind="delete")
    await repository.delete(image.id, job)
    claimed = await jobs.claim(job, "node-2")
    assert claimed is not None
    assert not await repository.undelete(job, image)
    assert list(await repository.deleted_locations(image.id)) == [CONTENT.location]
    assert await recorded(jobs) == [claimed]
    assert await repository.undelete(claimed, image)
    assert (await repository.get(image.id)).locations == (CONTENT.location,)
    assert await recorded(jobs) == []


@pytest_twisted.ensureDeferred
async def test_locations_come_back_to_the_owner_alone(
    repository: Images, jobs: JobRepository
) -> None:
    first, second = Location("file:///a"), Location("file:///b")
    image = await added(repository, status=Status.ACTIVE, locations=(first, second))
    job = new_job(image.id, kind="remove")
    await repository.update(
        image.id, lambda found: attrs.evolve(found, locations=(second,)), None, job
    )
    claimed = await jobs.claim(job, "node-2")
    assert claimed is not None
    assert not await repository.restore_locations(job)
    assert list(await repository.lost_locations(image.id)) == [first]
    assert await repository.restore_locations(claimed)
    assert (await repository.get(image.id)).locations == (first, second)


def test_pauses_grow_from_a_second_to_minutes() -> None:
    assert [pause_after(attempts) for attempts in (0, 1, 2, 3, 5)] == [1, 1, 2, 4, 16]
    assert pause_after(9) == 256
    assert pause_after(10) == pause_after(10_000) == LONGEST_PAUSE
