"""Locations in the database: how images get them, lose them, and get them back."""

from typing import Any

import attrs
import pytest
import pytest_twisted
import sqlalchemy as sa

from imgservice.db.engine.database import Database
from imgservice.db.repositories.images import Images
from imgservice.domain.errors import ImageNotFound, StatusConflict
from imgservice.domain.image import Image, Location, Status
from imgservice.domain.job import Job
from imgservice.service.ports import JobRepository
from tests.contract.databases import database, database_url, sqlite_url
from tests.contract.test_repository import (
    CONTENT,
    clock,
    jobs,
    new_image,
    new_job,
    recorded,
)
from tests.sharing.other import Other

__all__ = ["clock", "database", "database_url", "jobs", "sqlite_url"]  # fixtures

FIRST, SECOND, THIRD = (Location(f"http://{name}/", {"store": "web"}) for name in "abc")


@pytest.fixture
def images(database: Database) -> Images:
    return Images(database)


def removal(image: Image) -> Job:
    return attrs.evolve(new_job(image.id), kind="remove", store=None)


async def with_locations(images: Images, *locations: Location) -> Image:
    image = new_image(status=Status.ACTIVE, locations=locations)
    await images.add(image)
    return image


async def set_locations(images: Images, image: Image, *locations: Location, **more: Any) -> Job:
    job = removal(image)
    await images.update(
        image.id, lambda found: attrs.evolve(found, locations=locations, **more), None, job
    )
    return job


@pytest_twisted.ensureDeferred
async def test_a_queued_image_is_activated_once(images: Images) -> None:
    image = new_image()
    await images.add(image)
    await images.activate(image.id, attrs.evolve(CONTENT, checksum=None, virtual_size=None))
    found = await images.get(image.id)
    assert (found.status, found.size, found.checksum) == (Status.ACTIVE, CONTENT.size, None)
    assert found.locations == (CONTENT.location,)
    with pytest.raises(StatusConflict):
        await images.activate(image.id, CONTENT)
    assert (await images.get(image.id)).locations == (CONTENT.location,)
    with pytest.raises(ImageNotFound):
        await images.activate(new_image().id, CONTENT)


@pytest_twisted.ensureDeferred
async def test_locations_are_added_changed_and_lost_together(
    images: Images, jobs: JobRepository
) -> None:
    image = await with_locations(images, FIRST, SECOND)
    changed = attrs.evolve(SECOND, metadata={"store": "web", "more": [1]})
    job = await set_locations(images, image, changed, THIRD)
    assert (await images.get(image.id)).locations == (changed, THIRD)
    assert await images.lost_locations(image.id) == [FIRST]
    assert await recorded(jobs) == [job]
    await images.forget_locations(job)
    assert await images.lost_locations(image.id) == []
    assert await recorded(jobs) == []
    assert (await images.get(image.id)).locations == (changed, THIRD)


@pytest_twisted.ensureDeferred
async def test_without_a_loss_there_is_no_lease(images: Images, jobs: JobRepository) -> None:
    image = await with_locations(images, FIRST)
    await set_locations(images, image, FIRST, SECOND, name="other")
    assert (await images.get(image.id)).locations == (FIRST, SECOND)
    assert await recorded(jobs) == []
    assert await images.lost_locations(image.id) == []


@pytest_twisted.ensureDeferred
async def test_lost_locations_come_back(images: Images, jobs: JobRepository) -> None:
    image = await with_locations(images, FIRST, SECOND)
    job = await set_locations(images, image, SECOND)
    await images.restore_locations(job)
    assert (await images.get(image.id)).locations == (FIRST, SECOND)
    assert await recorded(jobs) == []


@pytest_twisted.ensureDeferred
async def test_locations_keep_their_order_for_glance(images: Images, database_url: str) -> None:
    """Glance reads them without an order, as PostgreSQL has them."""
    other, urls = Other.on(database_url), [FIRST.url, SECOND.url, THIRD.url]
    image = await with_locations(images, FIRST, SECOND)
    changed = attrs.evolve(FIRST, metadata={"store": "web", "more": "1"})
    await set_locations(images, image, changed, SECOND, THIRD)
    assert all(seen == urls for seen in other.locations(image.id))
    job = await set_locations(images, image, SECOND, THIRD)
    assert all(seen == urls[1:] for seen in other.locations(image.id))
    await images.restore_locations(job)
    assert all(seen == urls for seen in other.locations(image.id))
    deletion = new_job(image.id, kind="delete")
    await images.delete(image.id, deletion)
    await images.undelete(deletion, image)
    assert all(seen == urls for seen in other.locations(image.id))
    assert (await images.get(image.id)).locations == (changed, SECOND, THIRD)


@pytest_twisted.ensureDeferred
async def test_locations_keep_their_order_on_different_pages(
    images: Images, database_url: str
) -> None:
    """Every page has room for one row, so that two which are written together are torn apart."""
    if not database_url.startswith("postgresql"):
        pytest.skip("only PostgreSQL has an order that changes")
    other = Other.on(database_url)
    found = [new_image(status=Status.ACTIVE, locations=(FIRST,)) for _ in range(20)]
    for image in found:
        await images.add(image)
    fill(other, found[0], "early", 300)
    for image in found:
        await set_locations(images, image, FIRST, SECOND)
        fill(other, found[0], "late", 40)
    other.run("DELETE FROM image_locations WHERE value = 'late 5'")
    with other.engine.connect() as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT")
        connection.execute(sa.text("VACUUM ANALYZE image_locations"))
    changed = attrs.evolve(FIRST, metadata={"store": "web", "more": "1"})
    for image in found:
        await set_locations(images, image, changed, SECOND)
    seen = [urls for image in found for urls in other.locations(image.id)]
    assert [urls for urls in seen if urls != [FIRST.url, SECOND.url]] == []


def fill(other: Other, image: Image, what: str, count: int) -> None:
    """Add rows of locations that are deleted."""
    text = (
        "INSERT INTO image_locations (image_id, value, status, created_at, deleted)"
        " SELECT :image, :what || ' ' || number, 'deleted', now(), true"
        " FROM generate_series(1, :count) AS number"
    )
    other.run(text, image=image.id, what=what, count=count)


@pytest_twisted.ensureDeferred
async def test_only_the_owner_of_the_lease_decides(images: Images, jobs: JobRepository) -> None:
    image = await with_locations(images, FIRST, SECOND)
    job = await set_locations(images, image, SECOND)
    assert await jobs.claim(job, "node-2")
    assert not await images.restore_locations(job)
    await images.forget_locations(job)
    assert await images.lost_locations(image.id) == [FIRST]
    await images.forget_locations(attrs.evolve(job, owner="node-2"))
    assert await images.lost_locations(image.id) == []


@pytest_twisted.ensureDeferred
async def test_a_url_may_be_used_again_after_its_loss(images: Images) -> None:
    image = await with_locations(images, FIRST, SECOND)
    await images.forget_locations(await set_locations(images, image, SECOND))
    await set_locations(images, image, SECOND, FIRST)
    assert (await images.get(image.id)).locations == (SECOND, FIRST)
    assert await images.lost_locations(image.id) == []


@pytest_twisted.ensureDeferred
async def test_a_location_is_found_though_glance_rewrites_it_meanwhile(
    images: Images, database_url: str
) -> None:
    """Showing an image may make Glance take credentials out of its URLs, or add stores to them."""
    if database_url.startswith("sqlite"):
        pytest.skip("nobody else writes to SQLite meanwhile")
    other = Other.on(database_url)
    image = await with_locations(images, FIRST, SECOND, THIRD)

    def change(found: Image) -> Image:
        for location in (FIRST, SECOND):
            other.run(
                "UPDATE image_locations SET value = :new WHERE image_id = :image AND value = :old",
                new=f"{location.url}new",
                image=image.id,
                old=location.url,
            )
        marked = attrs.evolve(found.locations[1], metadata={"store": "web", "more": "1"})
        return attrs.evolve(found, locations=(marked, found.locations[2]))

    await images.update(image.id, change, None, removal(image))
    rewritten = Location(f"{SECOND.url}new", {"store": "web", "more": "1"})
    assert (await images.get(image.id)).locations == (rewritten, THIRD)
    assert [lost.url for lost in await images.lost_locations(image.id)] == [f"{FIRST.url}new"]


@pytest_twisted.ensureDeferred
async def test_of_two_equal_locations_one_is_changed(images: Images, database_url: str) -> None:
    """Glance does not keep anybody from recording a URL twice."""
    image = await with_locations(images, FIRST, FIRST)
    rows = "SELECT meta_data FROM image_locations WHERE image_id = :image ORDER BY id"
    marked = attrs.evolve(FIRST, metadata={"store": "web", "more": "1"})
    await set_locations(images, image, marked)
    metadata = [text for (text,) in Other.on(database_url).rows(rows, image=image.id)]
    assert len(set(metadata)) == 2
