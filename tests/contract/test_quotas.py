"""What projects have and may have, on every database."""

import uuid
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import attrs
import pytest
import pytest_twisted
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy.dialects import mysql, postgresql

from imgservice.db.engine.database import Database, Rows, Transaction, Work
from imgservice.db.engine.statement import Parameters, Statement
from imgservice.db.repositories import quota as quotas
from imgservice.db.repositories.images import Images
from imgservice.db.schema.tables import image_locations, image_properties, images, leases, projects
from imgservice.domain.errors import ImageGone, ImageNotFound, StatusConflict, TooLarge
from imgservice.domain.image import Content, Image, Location, Status
from imgservice.domain.job import Job
from imgservice.domain.quota import Quota, Resource, Usage
from imgservice.service.ports import JobRepository
from tests.contract.databases import database, database_url, sqlite_url
from tests.contract.test_repository import (
    START,
    added,
    clock,
    jobs,
    new_image,
    new_job,
    outcomes,
    read,
    recorded,
    repository,
    write,
)
from tests.examples import SHARING, examples

__all__ = [  # fixtures
    "clock",
    "database",
    "database_url",
    "jobs",
    "repository",
    "sqlite_url",
]

SIZE, STAGE = Resource.SIZE_TOTAL, Resource.STAGE_TOTAL
COUNT, UPLOADING = Resource.COUNT_TOTAL, Resource.COUNT_UPLOADING


def quota(**most: int) -> Quota:
    return Quota("ours", {Resource(name): amount for name, amount in most.items()})


def charged_job(image: Image, reserved: int, project: str = "ours") -> Job:
    return new_job(image.id, project=project, reserved=reserved)


def content(size: int, url: str | None = None) -> Content:
    location = Location(url or f"file:///{uuid.uuid4()}", {"store": "local"})
    return Content(size, None, "0" * 32, "sha512", "1" * 128, location)


async def usage(repository: Images, project: str = "ours") -> Usage:
    return await repository.usage(project, tuple(Resource))


async def uploaded(repository: Images, size: int, **values: Any) -> Image:
    image = await added(repository, **values)
    job = new_job(image.id)
    await repository.begin_upload(job)
    await repository.finish_upload(job, content(size))
    return image


async def mark(database: Database, image: Image, **values: Any) -> None:
    """Give the image's row values as Glance does."""
    await write(database, sa.update(images).where(images.c.id == image.id).values(values))


async def copying(database: Database, image: Image, stores: str, deleted: bool = False) -> None:
    row = {
        "image_id": image.id,
        "name": "os_glance_importing_to_stores",
        "value": stores,
        "created_at": START,
        "deleted": deleted,
    }
    await write(database, sa.insert(image_properties).values(row))


async def reserved(database: Database) -> int:
    [(amount,)] = await read(
        database, sa.select(sa.func.coalesce(sa.func.sum(leases.c.reserved), 0))
    )
    return int(amount)


# -- usage ----------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_nothing_is_used_at_first(repository: Images) -> None:
    assert await usage(repository) == dict.fromkeys(Resource, 0)
    await uploaded(repository, 100, owner="theirs")
    await uploaded(repository, 100, owner=None)
    assert await usage(repository) == dict.fromkeys(Resource, 0)


@pytest_twisted.ensureDeferred
async def test_every_copy_counts(repository: Images, database: Database) -> None:
    image = await uploaded(repository, 3 << 40)
    for status, deleted in (("active", False), ("pending_delete", True), ("deleted", True)):
        row = {
            "image_id": image.id,
            "value": f"file:///{status}",
            "status": status,
            "created_at": START,
            "deleted": deleted,
        }
        await write(database, sa.insert(image_locations).values(row))
    assert await usage(repository) == {SIZE: 9 << 40, STAGE: 0, COUNT: 1, UPLOADING: 0}


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("queued", (10, 0, 1, 0)),
        ("saving", (10, 0, 1, 1)),
        ("uploading", (10, 10, 1, 1)),
        ("importing", (10, 10, 1, 1)),
        ("active", (10, 0, 1, 0)),
        ("deactivated", (10, 0, 1, 0)),
        ("killed", (0, 0, 0, 0)),
        ("deleted", (0, 0, 0, 0)),
        ("pending_delete", (0, 0, 0, 0)),
    ],
)
@pytest.mark.parametrize("stores", [None, "", "fast,slow"])
@pytest_twisted.ensureDeferred
async def test_the_status_decides_what_counts(
    repository: Images,
    database: Database,
    status: str,
    expected: Sequence[int],
    stores: str | None,
) -> None:
    image = await uploaded(repository, 10)
    await mark(database, image, status=status)
    if stores is not None:
        await copying(database, image, stores)
    size, stage, count, uploading = expected
    if stores:
        stage, uploading = size, count  # being copied counts as both, and never twice
    assert await usage(repository) == {
        SIZE: size,
        STAGE: stage,
        COUNT: count,
        UPLOADING: uploading,
    }


async def recount(database: Database, project: str) -> Usage:
    """Count one by one, in the words of the rules."""
    gone = ("killed", "deleted", "pending_delete")
    columns = (images.c.id, images.c.status, images.c.size)
    rows = [
        row
        for row in await read(database, sa.select(*columns).where(images.c.owner == project))
        if row[1] not in gone
    ]
    copies = Counter(
        image_id
        for image_id, status in await read(
            database, sa.select(image_locations.c.image_id, image_locations.c.status)
        )
        if status != "deleted"
    )
    copied = {
        image_id
        for image_id, name, value in await read(
            database,
            sa.select(
                image_properties.c.image_id, image_properties.c.name, image_properties.c.value
            ),
        )
        if name == "os_glance_importing_to_stores" and value
    }
    staged = [row for row in rows if row[1] in ("uploading", "importing") or row[0] in copied]
    return {
        SIZE: sum((size or 0) * copies[image_id] for image_id, _, size in rows),
        STAGE: sum(size or 0 for _, _, size in staged),
        COUNT: len(rows),
        UPLOADING: sum(row[1] == "saving" for row in rows if row[0] not in copied) + len(staged),
    }


steps = st.lists(
    st.tuples(
        st.sampled_from(
            (
                "add",
                "begin",
                "grow",
                "finish",
                "abandon",
                "delete",
                "locate",
                "lose",
                "mark",
                "copy",
            )
        ),
        st.integers(0, 5),
        st.integers(0, 40),
    ),
    max_size=30,
)


class _Project:
    """What happens in a project, and what must hold all the time."""

    def __init__(self, repository: Images, jobs: JobRepository, database: Database) -> None:
        self.repository = repository
        self.jobs = jobs
        self.database = database
        self.quota = Quota(str(uuid.uuid4()), {SIZE: 100, COUNT: 4, UPLOADING: 2})
        self.images: list[Image] = []
        self.running: dict[str, tuple[Job, int]] = {}
        self.marked = False

    async def do(self, step: str, which: int, amount: int) -> None:
        if step == "add":
            image = new_image(owner=self.quota.project)
            await self.repository.add(image, self.quota)
            self.images.append(image)
        elif self.images:
            await getattr(self, step)(self.images[which % len(self.images)], amount)

    async def begin(self, image: Image, amount: int) -> None:
        job = charged_job(image, amount, self.quota.project)
        await self.repository.begin_upload(job, None, self.quota)
        self.running[image.id] = (job, amount)

    async def grow(self, image: Image, amount: int) -> None:
        if image.id in self.running:
            job, had = self.running[image.id]
            now = await self.repository.reserve(job, self.quota, had + amount, amount)
            self.running[image.id] = (job, now)

    async def finish(self, image: Image, amount: int) -> None:
        if image.id in self.running:
            job, most = self.running.pop(image.id)
            try:
                await self.repository.finish_upload(job, content(max(0, most - amount)))
            except ImageGone:
                await self.jobs.end(job)

    async def abandon(self, image: Image, _: int) -> None:
        if image.id in self.running:
            await self.repository.abandon_upload(self.running.pop(image.id)[0])

    async def delete(self, image: Image, _: int) -> None:
        await self.repository.delete(image.id, new_job(image.id, kind="delete"))

    async def locate(self, image: Image, _: int) -> None:
        def change(found: Image) -> Image:
            if found.status is not Status.ACTIVE:
                return found
            return _with_locations(found, (*found.locations, content(1).location))

        await self.repository.update(image.id, change, None, None, self.quota)

    async def lose(self, image: Image, _: int) -> None:
        await self.repository.update(
            image.id, lambda found: _with_locations(found, found.locations[1:]), None, None, None
        )

    async def mark(self, image: Image, amount: int) -> None:
        """Do what only Glance does; it asks nobody for leave."""
        self.marked = True
        status = ("uploading", "importing", "killed", "pending_delete")[amount % 4]
        await mark(self.database, image, status=status, size=amount)

    async def copy(self, image: Image, amount: int) -> None:
        self.marked = True
        found = await read(
            self.database,
            sa.select(image_properties.c.id).where(image_properties.c.image_id == image.id),
        )
        if not found:
            await copying(self.database, image, "fast" * (amount % 2), deleted=amount % 3 == 0)

    async def check(self) -> None:
        project = self.quota.project
        used = await self.repository.usage(project, tuple(Resource))
        assert used == await recount(self.database, project)
        if not self.marked:
            charged = sum(most for _, most in self.running.values())
            assert used[SIZE] + charged <= 100
            assert used[COUNT] <= 4
            assert used[UPLOADING] <= 2


def _with_locations(image: Image, locations: tuple[Location, ...]) -> Image:
    return attrs.evolve(image, locations=locations)


@settings(
    max_examples=examples(60),
    deadline=None,
    suppress_health_check=SHARING,
)
@given(steps=steps)
@pytest_twisted.ensureDeferred
async def test_usage_is_what_a_recount_finds_whatever_happened(
    repository: Images, jobs: JobRepository, database: Database, steps: list[tuple[str, int, int]]
) -> None:
    project = _Project(repository, jobs, database)
    for step, which, amount in steps:
        with suppress(TooLarge, StatusConflict, ImageNotFound, ImageGone):
            await project.do(step, which, amount)
        await project.check()


# -- limits ---------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_images_are_counted_when_they_are_added(repository: Images) -> None:
    two = quota(image_count_total=2)
    first = new_image()
    await repository.add(first, two)
    await repository.add(new_image(), two)
    with pytest.raises(TooLarge, match="image_count_total is over limit of 2"):
        await repository.add(new_image(), two)
    await repository.add(new_image(owner="theirs"), Quota("theirs", two.most))
    await repository.delete(first.id, new_job(first.id))
    await repository.add(new_image(), two)


@pytest_twisted.ensureDeferred
async def test_a_refused_image_leaves_nothing(repository: Images, database: Database) -> None:
    with pytest.raises(TooLarge):
        await repository.add(new_image(tags=("a",)), quota(image_count_total=0))
    assert await read(database, sa.select(images.c.id)) == []


@pytest_twisted.ensureDeferred
async def test_uploads_are_counted_when_they_begin(repository: Images) -> None:
    one, two = await added(repository), await added(repository)
    limit = quota(image_count_uploading=1)
    job = new_job(one.id)
    await repository.begin_upload(job, None, limit)
    with pytest.raises(TooLarge, match="image_count_uploading is over limit of 1"):
        await repository.begin_upload(new_job(two.id), None, limit)
    assert (await repository.get(two.id)).status is Status.QUEUED
    await repository.abandon_upload(job)
    await repository.begin_upload(new_job(two.id), None, limit)


@pytest_twisted.ensureDeferred
async def test_a_running_upload_is_charged_for_what_it_may_become(
    repository: Images, database: Database
) -> None:
    one, two = await added(repository), await added(repository)
    limit = quota(image_size_total=100)
    job = charged_job(one, 60)
    await repository.begin_upload(job, None, limit)
    with pytest.raises(TooLarge):
        await repository.begin_upload(charged_job(two, 41), None, limit)
    other = charged_job(two, 40)
    await repository.begin_upload(other, None, limit)
    await repository.finish_upload(job, content(50))
    assert await reserved(database) == 40
    await repository.reserve(other, limit, 50, 0)
    with pytest.raises(TooLarge):
        await repository.reserve(other, limit, 51, 0)
    await repository.abandon_upload(other)
    assert await reserved(database) == 0
    assert (await usage(repository))[SIZE] == 50


@pytest_twisted.ensureDeferred
async def test_an_upload_grows_as_far_as_there_is_room(
    repository: Images, database: Database
) -> None:
    image = await added(repository)
    limit = quota(image_size_total=1000)
    job = charged_job(image, 1)
    await repository.begin_upload(job, None, limit)
    assert await repository.reserve(job, limit, 500, 100) == 600
    assert await repository.reserve(job, limit, 650, 900) == 1000
    assert await repository.reserve(job, limit, 1000, 900) == 1000
    with pytest.raises(TooLarge):
        await repository.reserve(job, limit, 1001, 0)
    assert await reserved(database) == 1000


@pytest_twisted.ensureDeferred
async def test_a_lease_that_is_not_ours_reserves_nothing(
    repository: Images, jobs: JobRepository, database: Database
) -> None:
    image = await added(repository)
    limit = quota(image_size_total=1000)
    job = charged_job(image, 1)
    with pytest.raises(ImageGone):
        await repository.reserve(job, limit, 2, 0)
    await repository.begin_upload(job, None, limit)
    assert await jobs.claim(job, "node-2")
    with pytest.raises(ImageGone):
        await repository.reserve(job, limit, 2, 0)
    assert await reserved(database) == 1


@pytest_twisted.ensureDeferred
async def test_a_dead_upload_is_charged_until_it_is_cleaned_up(
    repository: Images, jobs: JobRepository
) -> None:
    image = await added(repository)
    limit = quota(image_size_total=100)
    await repository.begin_upload(charged_job(image, 100), None, limit)
    [found] = await recorded(jobs)
    assert (found.project, found.reserved) == ("ours", 100)
    assert await jobs.claim(found, "node-2")
    other = await added(repository)
    with pytest.raises(TooLarge):
        await repository.begin_upload(charged_job(other, 1), None, limit)
    [taken] = await recorded(jobs)
    await repository.abandon_upload(taken)
    await repository.begin_upload(charged_job(other, 100), None, limit)


@pytest_twisted.ensureDeferred
async def test_a_deleted_image_is_charged_while_its_upload_goes_on(
    repository: Images,
    jobs: JobRepository,
) -> None:
    image, other = await added(repository), await added(repository)
    limit = quota(image_size_total=100)
    job = charged_job(image, 100)
    await repository.begin_upload(job, None, limit)
    await repository.delete(image.id, new_job(image.id, kind="delete"))
    with pytest.raises(TooLarge):
        await repository.begin_upload(charged_job(other, 1), None, limit)
    with pytest.raises(ImageGone):
        await repository.finish_upload(job, content(100))
    with pytest.raises(TooLarge):
        await repository.begin_upload(charged_job(other, 1), None, limit)
    await jobs.end(job)
    await repository.begin_upload(charged_job(other, 100), None, limit)


@pytest_twisted.ensureDeferred
async def test_locations_that_are_added_are_charged(repository: Images) -> None:
    image = await uploaded(repository, 40)
    limit = quota(image_size_total=100)

    def one_more(found: Image) -> Image:
        return _with_locations(found, (*found.locations, content(1).location))

    await repository.update(image.id, one_more, None, None, limit)
    with pytest.raises(TooLarge):
        await repository.update(image.id, one_more, None, None, limit)
    assert len((await repository.get(image.id)).locations) == 2

    queued = await added(repository)
    with pytest.raises(TooLarge):
        await repository.activate(queued.id, content(21), limit)
    await repository.activate(queued.id, content(20), limit)
    assert (await usage(repository))[SIZE] == 100


@pytest_twisted.ensureDeferred
async def test_a_limit_below_what_is_there_takes_nothing_away(repository: Images) -> None:
    image = await uploaded(repository, 40)
    low = quota(image_size_total=10, image_count_total=0)
    with pytest.raises(TooLarge):
        await repository.add(new_image(), low)
    job = charged_job(await added(repository), 0)
    with pytest.raises(TooLarge):
        await repository.begin_upload(job, None, low)
    assert (await repository.get(image.id)).status is Status.ACTIVE
    await repository.update(image.id, lambda found: _with_locations(found, ()), None, None, low)
    await repository.delete(image.id, new_job(image.id, kind="delete"))


# -- at the same time -----------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_of_many_at_once_as_many_as_fit(repository: Images, database: Database) -> None:
    ten = quota(image_count_total=10, image_size_total=100, image_count_uploading=10)
    many = [new_image() for _ in range(30)]
    results = await outcomes(*(repository.add(image, ten) for image in many))
    assert Counter(map(type, results)) == {type(None): 10, TooLarge: 20}

    taken = [image for image, result in zip(many, results, strict=True) if result is None]
    claims = [charged_job(image, 30) for image in taken]
    results = await outcomes(*(repository.begin_upload(job, None, ten) for job in claims))
    assert Counter(map(type, results)) == {type(None): 3, TooLarge: 7}
    assert (await reserved(database)) == 90

    started = [job for job, result in zip(claims, results, strict=True) if result is None]
    results = await outcomes(*(repository.reserve(job, ten, 40, 0) for job in started))
    assert Counter(map(type, results)) == {int: 1, TooLarge: 2}
    assert (await reserved(database)) == 100


@pytest_twisted.ensureDeferred
async def test_a_project_is_met_once(repository: Images, database: Database) -> None:
    limit = quota(image_count_total=100)
    await outcomes(*(repository.add(new_image(), limit) for _ in range(10)))
    assert await read(database, sa.select(projects.c.project)) == [("ours",)]
    assert (await usage(repository))[COUNT] == 10


@pytest_twisted.ensureDeferred
async def test_where_nothing_is_limited_nothing_is_locked(
    repository: Images, database: Database
) -> None:
    image = new_image()
    await repository.add(image, quota())
    await repository.begin_upload(new_job(image.id), None, quota(image_stage_total=5))
    assert await read(database, sa.select(projects.c.project)) == []


@attrs.define
class Recording:
    """A database that notes the statements of its transactions."""

    database: Database
    statements: list[Statement] = attrs.field(factory=list)

    async def run(self, work: Work[Any]) -> Any:
        async def recorded(transaction: Transaction) -> Any:
            return await work(_RecordingTransaction(transaction, self.statements))

        return await self.database.run(recorded)


@attrs.frozen
class _RecordingTransaction:
    inner: Transaction
    statements: list[Statement]

    async def execute(self, statement: Statement, parameters: Parameters) -> Rows:
        self.statements.append(statement)
        return await self.inner.execute(statement, parameters)

    async def execute_many(self, statement: Statement, parameters: Sequence[Parameters]) -> None:
        await self.inner.execute_many(statement, parameters)


@pytest_twisted.ensureDeferred
async def test_the_lock_comes_before_anything_is_read(
    repository: Images, database: Database
) -> None:
    """Else databases with many writers would count what is there no more."""
    limit = quota(image_size_total=100, image_count_total=100, image_count_uploading=100)
    await repository.add(new_image(), limit)
    recording = Recording(database)
    recorded = Images(recording)  # type: ignore[arg-type]
    one, two = await added(repository), await added(repository)
    job = charged_job(one, 1)
    for work in (
        recorded.add(new_image(), limit),
        recorded.begin_upload(job, None, limit),
        recorded.reserve(job, limit, 5, 0),
        recorded.activate(two.id, content(1), limit),
        recorded.update(
            two.id, lambda found: _with_locations(found, found.locations * 2), None, None, limit
        ),
    ):
        recording.statements.clear()
        await work
        assert recording.statements[0] is quotas._LOCK
        assert recording.statements.count(quotas._LOCK) <= 2
        assert len(recording.statements) > 2


@pytest_twisted.ensureDeferred
async def test_no_limit_costs_nothing(repository: Images, database: Database) -> None:
    recording = Recording(database)
    recorded = Images(recording)  # type: ignore[arg-type]
    image = new_image()
    await recorded.add(image)
    assert len(recording.statements) == 1
    job = new_job(image.id)
    await recorded.begin_upload(job)
    assert len(recording.statements) == 3
    await recorded.finish_upload(job, content(5))
    assert len(recording.statements) == 6


@pytest.mark.parametrize("dialect", [postgresql, mysql])
def test_the_text_for_other_databases(dialect: Any) -> None:
    """Whoever counts in order to add waits for the others, also where there are many writers."""
    made = dialect.dialect(paramstyle="format")
    assert quotas._LOCK.compiled(made).sql.endswith("FOR UPDATE")
    counted = quotas.usage_statement(tuple(Resource), reserved=True).compiled(made)
    assert counted.sql.count("imgsvc_leases") >= 1
    assert "FOR UPDATE" not in counted.sql
