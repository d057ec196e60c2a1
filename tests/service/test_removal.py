"""What becomes of the data of images and locations that go, and of work that is under way."""

import pytest
from pytest_twisted import ensureDeferred

from imgservice.db.engine.database import Database
from imgservice.db.repositories.images import Images
from imgservice.db.repositories.jobs import Jobs
from imgservice.domain.errors import Conflict, NotConfigured, NotFound
from imgservice.domain.image import Image, Location, Status
from imgservice.domain.job import Job
from imgservice.service.process_jobs import ProcessJobs
from imgservice.service.removal import RemovalService
from imgservice.store.choose import Stores
from tests.contract.test_repository import new_image, new_job, recorded
from tests.sqlite import database, database_url, sqlite_url

__all__ = ["database", "database_url", "sqlite_url"]  # fixtures

HERE, ELSEWHERE = (Location(f"memory://{name}", {"store": name}) for name in ("here", "elsewhere"))


class Owner:
    id = "us"

    def is_dead(self, owner: str) -> bool:
        return False


class DroppingStore:
    """Notes what is removed from it, or refuses to remove anything."""

    def __init__(self) -> None:
        self.removed: list[str] = []
        self.taken_by: Jobs | None = None

    async def delete(self, url: str) -> None:
        if self.taken_by is not None:
            [job] = await recorded(self.taken_by)
            await self.taken_by.claim(job, "another")
            raise Conflict("A clone needs the data.")
        self.removed.append(url)


class World:
    def __init__(self, database: Database) -> None:
        self.images, self.jobs = Images(database), Jobs(database)
        self.store = DroppingStore()
        stores = Stores({"here": self.store}, "here")  # type: ignore[dict-item]
        self.process = ProcessJobs(self.jobs, Owner(), print)
        self.removal = RemovalService(self.images, stores, self.process)

    async def image(self, *locations: Location) -> Image:
        image = new_image(status=Status.ACTIVE, locations=locations)
        await self.images.add(image)
        return image

    async def upload_by(self, owner: str) -> tuple[Image, Job]:
        image = new_image()
        await self.images.add(image)
        job = new_job(image.id, owner=owner)
        await self.images.begin_upload(job)
        return await self.images.get(image.id), job


@pytest.fixture
def world(database: Database) -> World:
    return World(database)


@ensureDeferred
async def test_a_deletion_stops_uploads_everywhere(world: World) -> None:
    there, job = await world.upload_by("another")
    await world.removal.delete(there)
    assert await world.jobs.renew("another") == {job.id}
    here, job = await world.upload_by("us")
    with world.process.run(job) as run:
        await world.removal.delete(here)
        assert run.is_cancelled


@ensureDeferred
async def test_what_is_here_is_removed_and_the_rest_left_to_other_nodes(world: World) -> None:
    image = await world.image(ELSEWHERE, HERE)
    await world.removal.delete(image)
    assert world.store.removed == [HERE.url]
    [job] = await recorded(world.jobs)
    assert (job.kind, job.owner) == ("delete", "us")
    with pytest.raises(NotConfigured):
        await world.removal.remove([ELSEWHERE])


@ensureDeferred
async def test_a_deletion_that_another_process_has_taken_over_is_not_taken_back(
    world: World,
) -> None:
    image = await world.image(HERE)
    world.store.taken_by = world.jobs
    await world.removal.delete(image)
    with pytest.raises(NotFound):
        await world.images.get(image.id)
    [job] = await recorded(world.jobs)
    assert job.owner == "another"
