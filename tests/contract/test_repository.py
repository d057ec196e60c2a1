"""What every database must make of the repository's promises."""

import itertools
import uuid
from collections.abc import Coroutine, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import attrs
import pytest
import pytest_twisted
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, gatherResults

from imgservice.api.v2.listing import MOST_FILTERS, MOST_VALUES
from imgservice.db.engine.database import Database, Rows, Transaction
from imgservice.db.engine.statement import Statement
from imgservice.db.repositories.images import Images
from imgservice.db.repositories.jobs import Jobs
from imgservice.db.schema.tables import (
    image_locations,
    image_members,
    image_properties,
    image_tags,
    images,
)
from imgservice.domain.errors import (
    DuplicateImage,
    Forbidden,
    ImageGone,
    ImageNotFound,
    Invalid,
    StatusConflict,
)
from imgservice.domain.image import Content, Image, Location, Status, Visibility
from imgservice.domain.job import Job
from imgservice.domain.query import Comparison, Direction, ImageQuery
from imgservice.service.ports import JobRepository
from tests.contract.databases import database, database_url, sqlite_url
from tests.examples import SHARING, examples

__all__ = ["database", "database_url", "sqlite_url"]  # fixtures

START = datetime(2026, 3, 1, 12, 0, 0)


class Clock:
    """A clock that goes on by one second whenever it is read."""

    def __init__(self) -> None:
        self.time = START + timedelta(days=1)

    def __call__(self) -> datetime:
        self.time += timedelta(seconds=1)
        return self.time


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def repository(database: Database, clock: Clock) -> Images:
    return Images(database, lease_time=60, now=clock)


@pytest.fixture
def jobs(database: Database, clock: Clock) -> JobRepository:
    return Jobs(database, lease_time=60, now=clock)


_ages = itertools.count()
# Glance's tables on MariaDB know no others, which is why the API refuses them everywhere.
CHARACTERS = st.characters(max_codepoint=0xFFFF, exclude_categories=["Cs"], exclude_characters="\0")


def new_image(**values: Any) -> Image:
    """An image that is younger than all that were made before it."""
    made = START + timedelta(seconds=next(_ages))
    fields: dict[str, Any] = {
        "id": str(uuid.uuid4()),
        "status": Status.QUEUED,
        "created_at": made,
        "updated_at": made,
        "name": "an image",
        "owner": "ours",
    }
    return Image(**(fields | values))


def new_job(image_id: str, **values: Any) -> Job:
    fields: dict[str, Any] = {
        "id": str(uuid.uuid4()),
        "kind": "upload",
        "owner": "node-1",
        "store": "local",
    }
    return Job(image_id=image_id, **(fields | values))


KINDS = ("upload", "location", "delete", "remove")


async def recorded(jobs: JobRepository) -> list[Job]:
    """Return all jobs that there are."""
    found = [await jobs.owned(one.owner, KINDS, 100) for one in await jobs.holdings()]
    return [job for some in found for job, _ in some]


def query(**values: Any) -> ImageQuery:
    fields: dict[str, Any] = {"project": "ours", "is_admin": False, "limit": 100}
    return ImageQuery(**(fields | values))


CONTENT = Content(
    size=5 * 2**40,
    virtual_size=2**62,
    checksum="0" * 32,
    os_hash_algo="sha512",
    os_hash_value="1" * 128,
    location=Location("file:///images/x", {"store": "local", "more": [1, {"b": None}]}),
)


async def added(repository: Images, **values: Any) -> Image:
    image = new_image(**values)
    await repository.add(image)
    return image


async def ids(repository: Images, **values: Any) -> list[str]:
    return [image.id for image in (await repository.list(query(**values))).images]


async def write(database: Database, core: sa.Insert | sa.Update | sa.Delete) -> None:
    """Change the database as only another program, such as Glance, does."""
    statement = Statement(core)

    async def work(transaction: Transaction) -> Rows:
        return await transaction.execute(statement, {})

    assert (await database.run(work)).count


async def read(database: Database, core: sa.Select[Any]) -> Sequence[Any]:
    return await database.fetch(Statement(core), {}, lambda found: list(found.rows))


async def share(
    database: Database, image: Image, project: str, status: str, deleted: bool = False
) -> None:
    row = {
        "image_id": image.id,
        "member": project,
        "can_share": False,
        "status": status,
        "created_at": START,
        "updated_at": START,
        "deleted": deleted,
        "deleted_at": START if deleted else None,
    }
    await write(database, sa.insert(image_members).values(row))


async def outcomes(*attempts: Coroutine[Any, Any, object]) -> list[object]:
    """Run all at once; return each one's result or error."""
    started = [Deferred.fromCoroutine(attempt) for attempt in attempts]
    for each in started:
        each.addErrback(lambda failure: failure.value)
    return list(await gatherResults(started))


@pytest_twisted.ensureDeferred
async def test_get_returns_what_was_added(repository: Images) -> None:
    image = await added(
        repository,
        name="\u2603 pingüino 企鹅 'quoted\" \\ %s :x ?",
        visibility=Visibility.COMMUNITY,
        protected=True,
        os_hidden=True,
        disk_format="raw",
        container_format="bare",
        min_disk=2**31 - 1,
        min_ram=3,
        size=2**63 - 1,
        virtual_size=2**62,
        checksum="c" * 32,
        os_hash_algo="sha512",
        os_hash_value="d" * 128,
        tags=("a", "b", "\u2603"),
        properties={"key \u2603": "value \u2603\n\t", "empty": "", "null": None},
        locations=(CONTENT.location, Location("file:///b")),
    )

    assert await repository.get(image.id) == image
    assert (await repository.list(query(os_hidden=True))).images == [image]


@pytest_twisted.ensureDeferred
async def test_an_image_of_nothing_but_its_id(repository: Images) -> None:
    image = await added(repository, name=None, owner=None)
    assert await repository.get(image.id) == image


@settings(
    max_examples=examples(30),
    deadline=None,
    suppress_health_check=SHARING,
)
@given(
    name=st.text(CHARACTERS, max_size=20),
    value=st.text(CHARACTERS, max_size=99),
)
@pytest_twisted.ensureDeferred
async def test_any_text_comes_back_as_it_was(repository: Images, name: str, value: str) -> None:
    image = await added(repository, name=name, tags=(value,), properties={name: value})
    assert await repository.get(image.id) == image


@pytest_twisted.ensureDeferred
async def test_times_keep_their_microseconds(repository: Images, database_url: str) -> None:
    made = START.replace(microsecond=7)
    image = await added(repository, created_at=made, updated_at=made)
    # Glance's tables on MariaDB keep whole seconds.
    kept = START if database_url.startswith("mysql") else made
    assert (await repository.get(image.id)).created_at == kept


@pytest_twisted.ensureDeferred
async def test_unknown_image(repository: Images) -> None:
    with pytest.raises(ImageNotFound, match="No image found with ID nothing"):
        await repository.get("nothing")


@pytest_twisted.ensureDeferred
async def test_an_id_is_used_once(repository: Images) -> None:
    image = await added(repository)
    with pytest.raises(DuplicateImage):
        await repository.add(attrs.evolve(image, name="another", properties={"a": "b"}))
    assert await repository.get(image.id) == image

    await repository.delete(image.id, new_job(image.id))
    with pytest.raises(DuplicateImage):
        await repository.add(image)
    with pytest.raises(ImageNotFound):
        await repository.get(image.id)


@pytest_twisted.ensureDeferred
async def test_one_of_many_takes_an_id(repository: Images) -> None:
    image = new_image(tags=("a",))
    results = await outcomes(*(repository.add(image) for _ in range(8)))
    assert sorted(type(result).__name__ for result in results) == ["DuplicateImage"] * 7 + [
        "NoneType"
    ]
    assert await repository.get(image.id) == image


@pytest_twisted.ensureDeferred
async def test_get_tells_the_membership_of_who_asks(repository: Images, database: Database) -> None:
    image = await added(repository)
    await share(database, image, "theirs", "rejected", deleted=True)
    await share(database, image, "theirs", "pending")
    await share(database, image, "former", "accepted", deleted=True)

    assert (await repository.get(image.id, "theirs")).membership == "pending"
    assert (await repository.get(image.id, "former")).membership is None
    assert (await repository.get(image.id)).membership is None


@pytest_twisted.ensureDeferred
async def test_only_live_children_count(repository: Images, database: Database) -> None:
    image = await added(
        repository,
        tags=("here", "gone"),
        properties={"here": "1", "gone": "2"},
        locations=(Location("file:///a"), Location("file:///gone"), Location("file:///waiting")),
    )
    gone = {"deleted": True, "deleted_at": START}
    for table, column, value in (
        (image_tags, "value", "gone"),
        (image_properties, "name", "gone"),
        (image_locations, "value", "file:///gone"),
    ):
        await write(database, sa.update(table).where(table.c[column] == value).values(gone))
    await write(
        database,
        sa.update(image_locations)
        .where(image_locations.c.value == "file:///waiting")
        .values(status="pending_delete"),
    )

    found = await repository.get(image.id)
    assert found.tags == ("here",)
    assert found.properties == {"here": "1"}
    assert found.locations == (Location("file:///a"),)


@pytest_twisted.ensureDeferred
async def test_locations_keep_their_order(repository: Images) -> None:
    locations = tuple(Location(f"file:///{9 - n}") for n in range(9))
    image = await added(repository, locations=locations)
    assert (await repository.get(image.id)).locations == locations


# Uploads


@pytest_twisted.ensureDeferred
async def test_an_upload_from_beginning_to_end(repository: Images, jobs: JobRepository) -> None:
    image = await added(repository)
    job = new_job(image.id)

    await repository.begin_upload(job)
    saving = await repository.get(image.id)
    assert saving.status is Status.SAVING
    assert saving.updated_at > image.updated_at
    assert await recorded(jobs) == [job]

    await repository.finish_upload(job, CONTENT)
    assert await repository.get(image.id) == attrs.evolve(
        image,
        status=Status.ACTIVE,
        updated_at=(await repository.get(image.id)).updated_at,
        size=CONTENT.size,
        virtual_size=CONTENT.virtual_size,
        checksum=CONTENT.checksum,
        os_hash_algo=CONTENT.os_hash_algo,
        os_hash_value=CONTENT.os_hash_value,
        locations=(CONTENT.location,),
    )
    assert await recorded(jobs) == []


@pytest_twisted.ensureDeferred
async def test_one_of_many_uploads_begins(repository: Images, jobs: JobRepository) -> None:
    image = await added(repository)
    claims = [new_job(image.id) for _ in range(8)]
    results = await outcomes(*(repository.begin_upload(job) for job in claims))

    assert results.count(None) == 1
    (message,) = {str(error) for error in results if error is not None}
    assert message == f"Image {image.id} is saving; this needs it queued."
    assert await recorded(jobs) == [claims[results.index(None)]]


@pytest_twisted.ensureDeferred
async def test_no_upload_begins_without_an_image(repository: Images, jobs: JobRepository) -> None:
    with pytest.raises(ImageNotFound):
        await repository.begin_upload(new_job("nothing"))
    assert await recorded(jobs) == []


@pytest_twisted.ensureDeferred
async def test_an_active_image_takes_no_upload(repository: Images) -> None:
    image = await added(repository, status=Status.ACTIVE)
    with pytest.raises(StatusConflict):
        await repository.begin_upload(new_job(image.id))


@pytest_twisted.ensureDeferred
async def test_the_detected_format_is_noted_with_the_content(repository: Images) -> None:
    image = await added(repository)
    job = new_job(image.id)
    await repository.begin_upload(job)
    await repository.finish_upload(job, attrs.evolve(CONTENT, detected_format="qcow2"))
    found = await repository.get(image.id)
    assert found.properties == {**image.properties, "os_glance_detected_format": "qcow2"}
    assert found.status is Status.ACTIVE


@pytest_twisted.ensureDeferred
async def test_delete_during_an_upload(repository: Images, jobs: JobRepository) -> None:
    image = await added(repository)
    job = new_job(image.id)
    await repository.begin_upload(job)
    removal = new_job(image.id, kind="delete")
    assert list(await repository.delete(image.id, removal)) == []

    with pytest.raises(ImageGone):
        await repository.finish_upload(job, CONTENT)
    assert list(await repository.deleted_locations(image.id)) == []
    assert await recorded(jobs) == [job]
    await repository.abandon_upload(job)
    with pytest.raises(ImageNotFound):
        await repository.get(image.id)
    assert await recorded(jobs) == []


@pytest_twisted.ensureDeferred
async def test_delete_and_finish_at_once(repository: Images) -> None:
    for _ in range(10):
        image = await added(repository)
        job, removal = new_job(image.id), new_job(image.id, kind="delete")
        await repository.begin_upload(job)
        finished, urls = await outcomes(
            repository.finish_upload(job, CONTENT), repository.delete(image.id, removal)
        )
        # Either the delete saw the location, or there never was one.
        assert (finished, urls) == (None, (CONTENT.location,)) or (
            isinstance(finished, ImageGone) and not urls
        )


@pytest_twisted.ensureDeferred
async def test_an_upload_taken_from_its_owner(repository: Images, jobs: JobRepository) -> None:
    image = await added(repository)
    job = new_job(image.id)
    await repository.begin_upload(job)
    assert await jobs.claim(job, "node-2")

    with pytest.raises(ImageGone):
        await repository.finish_upload(job, CONTENT)
    await repository.abandon_upload(job)
    await jobs.end(job)
    assert (await repository.get(image.id)).status is Status.SAVING

    taken = attrs.evolve(job, owner="node-2", attempts=1)
    assert await recorded(jobs) == [taken]
    await repository.abandon_upload(taken)
    assert (await repository.get(image.id)).status is Status.QUEUED


@pytest_twisted.ensureDeferred
async def test_an_abandoned_upload_can_be_repeated(
    repository: Images, jobs: JobRepository, database: Database
) -> None:
    image = await added(repository, size=7, virtual_size=8)
    job = new_job(image.id)
    await repository.begin_upload(job)
    await repository.abandon_upload(job)
    found = await repository.get(image.id)
    assert (found.status, found.size, found.virtual_size) == (Status.QUEUED, None, None)
    assert await recorded(jobs) == []

    await repository.abandon_upload(job)
    again = new_job(image.id)
    await repository.begin_upload(again)
    await repository.finish_upload(again, CONTENT)
    await repository.abandon_upload(again)
    assert (await repository.get(image.id)).status is Status.ACTIVE


# Deletion


async def deletion_marks(database: Database, image_id: str) -> dict[str, set[tuple[Any, ...]]]:
    tables = (image_properties, image_tags, image_members, image_locations)
    marks = {
        table.name: {
            tuple(row)
            for row in await read(
                database,
                sa.select(table.c.deleted, table.c.deleted_at).where(table.c.image_id == image_id),
            )
        }
        for table in tables
    }
    own = sa.select(images.c.deleted, images.c.deleted_at).where(images.c.id == image_id)
    return marks | {"images": set(await read(database, own))}


@pytest_twisted.ensureDeferred
async def test_delete_marks_everything_with_one_time(
    repository: Images, jobs: JobRepository, database: Database
) -> None:
    locations = (Location("file:///b"), Location("file:///a"))
    image = await added(repository, tags=("a",), properties={"k": "v"}, locations=locations)
    await share(database, image, "theirs", "accepted")
    job = new_job(image.id, kind="delete")

    assert list(await repository.delete(image.id, job)) == list(locations)

    (mark,) = set.union(*(await deletion_marks(database, image.id)).values())
    assert mark[0] is True
    assert mark[1] > image.updated_at
    statuses = sa.select(images.c.status, image_locations.c.status).join(image_locations)
    assert set(await read(database, statuses)) == {("deleted", "deleted")}
    assert await recorded(jobs) == [job]
    assert list(await repository.deleted_locations(image.id)) == list(locations)
    assert not (await repository.list(query())).images
    with pytest.raises(ImageNotFound):
        await repository.delete(image.id, new_job(image.id))


@pytest_twisted.ensureDeferred
async def test_delete_without_data_needs_no_lease(repository: Images, jobs: JobRepository) -> None:
    image = await added(repository)
    assert list(await repository.delete(image.id, new_job(image.id, kind="delete"))) == []
    assert await recorded(jobs) == []


@pytest_twisted.ensureDeferred
async def test_protected_and_unknown_images_are_not_deleted(repository: Images) -> None:
    image = await added(repository, protected=True, tags=("a",))
    with pytest.raises(Forbidden) as raised:
        await repository.delete(image.id, new_job(image.id))
    assert raised.value.message == f"Image {image.id} is protected and cannot be deleted."
    assert await repository.get(image.id) == image
    with pytest.raises(ImageNotFound):
        await repository.delete("nothing", new_job("nothing"))


@pytest_twisted.ensureDeferred
async def test_one_of_many_deletes_happens(repository: Images) -> None:
    image = await added(repository, locations=(CONTENT.location,))
    results = await outcomes(*(repository.delete(image.id, new_job(image.id)) for _ in range(6)))
    assert sum(isinstance(result, ImageNotFound) for result in results) == 5
    assert (CONTENT.location,) in results


@pytest_twisted.ensureDeferred
async def test_undelete_restores_what_that_delete_took(
    repository: Images, jobs: JobRepository, database: Database
) -> None:
    image = await added(
        repository,
        status=Status.ACTIVE,
        tags=("a", "b"),
        properties={"k": "v", "null": None},
        locations=(Location("file:///a"), Location("file:///gone")),
    )
    await share(database, image, "theirs", "accepted")
    await share(database, image, "former", "accepted", deleted=True)
    gone = sa.update(image_locations).where(image_locations.c.value == "file:///gone")
    await write(database, gone.values(deleted=True, deleted_at=START, status="deleted"))
    await write(
        database,
        sa.update(image_tags)
        .where(image_tags.c.value == "b")
        .values(deleted=True, deleted_at=START),
    )
    before = await repository.get(image.id, "theirs")
    job = new_job(image.id, kind="delete")
    await repository.delete(image.id, job)
    assert list(await repository.deleted_locations(image.id)) == [Location("file:///a")]

    assert await repository.undelete(job, before)

    after = await repository.get(image.id, "theirs")
    assert after == attrs.evolve(before, updated_at=after.updated_at)
    assert (await repository.get(image.id, "former")).membership is None
    assert await recorded(jobs) == []
    assert list(await repository.deleted_locations(image.id)) == []


# Lists: who sees what

PUBLIC, PRIVATE = Visibility.PUBLIC, Visibility.PRIVATE
SHARED, COMMUNITY = Visibility.SHARED, Visibility.COMMUNITY


@pytest_twisted.async_yield_fixture
async def world(repository: Images, database: Database) -> Any:
    """Images of ours and others' in every visibility, by a name that says which is which."""
    named: dict[str, str] = {}
    for owner in ("ours", "others", None):
        for visibility in Visibility:
            image = await added(repository, owner=owner, visibility=visibility)
            named[image.id] = f"{owner} {visibility.value}"
    for status in ("accepted", "pending", "rejected"):
        image = await added(repository, owner="others", visibility=SHARED)
        await share(database, image, "ours", status)
        named[image.id] = f"with us {status}"
    image = await added(repository, owner="others", visibility=SHARED)
    await share(database, image, "ours", "accepted", deleted=True)
    named[image.id] = "formerly with us"
    image = await added(repository, owner="others", visibility=PRIVATE)
    await share(database, image, "ours", "accepted")
    named[image.id] = "made private again"
    yield named


OURS = {"ours public", "ours private", "ours shared", "ours community"}
UNOWNED = {"None public", "None community"}
"""What is nobody's is listed only where it is for all."""


@pytest.mark.parametrize(
    ("asked", "seen"),
    [
        ({}, OURS | UNOWNED - {"None community"} | {"others public", "with us accepted"}),
        ({"visibility": PUBLIC}, {"ours public", "others public", "None public"}),
        ({"visibility": PRIVATE}, {"ours private"}),
        ({"visibility": COMMUNITY}, {"ours community", "others community", "None community"}),
        ({"visibility": SHARED}, {"ours shared", "with us accepted"}),
        (
            {"visibility": SHARED, "member_status": "pending"},
            {"ours shared", "with us pending"},
        ),
        (
            {"visibility": SHARED, "member_status": "all"},
            {"ours shared"} | {f"with us {status}" for status in
             ("accepted", "pending", "rejected")},
        ),
        (
            {"visibility": "all"},
            OURS | UNOWNED | {"others public", "others community", "with us accepted"},
        ),
        (
            {"member_status": "rejected"},
            OURS | UNOWNED - {"None community"} | {"others public", "with us rejected"},
        ),
        (
            {"project": None},
            {"None public", "ours public", "others public"},
        ),
    ],
)  # fmt: skip
@pytest_twisted.ensureDeferred
async def test_what_a_project_sees(
    repository: Images,
    world: Mapping[str, str],
    asked: Mapping[str, Any],
    seen: set[str],
) -> None:
    found = [world[image_id] for image_id in await ids(repository, **asked)]
    assert sorted(found) == sorted(seen)


@pytest.mark.parametrize(
    ("asked", "hidden"),
    [
        ({}, {"others community", "None community"}),
        ({"project": None}, {"ours community", "others community", "None community"}),
        ({"visibility": "all"}, set()),
    ],
)
@pytest_twisted.ensureDeferred
async def test_what_an_admin_sees(
    repository: Images,
    world: Mapping[str, str],
    asked: Mapping[str, Any],
    hidden: set[str],
) -> None:
    found = [world[image_id] for image_id in await ids(repository, is_admin=True, **asked)]
    assert sorted(found) == sorted(set(world.values()) - hidden)


@pytest_twisted.ensureDeferred
async def test_an_admin_asks_for_one_visibility(
    repository: Images, world: Mapping[str, str]
) -> None:
    for visibility in Visibility:
        found = (await repository.list(query(is_admin=True, visibility=visibility))).images
        assert {image.visibility for image in found} == {visibility}
        assert len(found) == {"shared": 7, "private": 4}.get(visibility.value, 3)


@pytest_twisted.ensureDeferred
async def test_a_list_tells_the_membership(repository: Images, world: Mapping[str, str]) -> None:
    found = (await repository.list(query(visibility=SHARED, member_status="all"))).images
    memberships = {world[image.id]: image.membership for image in found}
    assert memberships["with us pending"] == "pending"
    assert memberships["ours shared"] is None


@pytest_twisted.ensureDeferred
async def test_killed_deleted_and_hidden_images_are_not_listed(
    repository: Images,
) -> None:
    image = await added(repository, status=Status.ACTIVE)
    hidden = await added(repository, os_hidden=True)
    await added(repository, status=Status.KILLED)
    await added(repository, status=Status.DELETED)
    gone = await added(repository)
    await repository.delete(gone.id, new_job(gone.id))
    assert await ids(repository) == [image.id]
    assert await ids(repository, os_hidden=True) == [hidden.id]
    killed = (Comparison("status", "in", ("killed", "deleted")),)
    assert await ids(repository, is_admin=True, where=killed) == []


# Lists: filters


@pytest.mark.parametrize(
    ("where", "matches"),
    [
        (Comparison("name", "eq", "one"), "a"),
        (Comparison("name", "in", ("one", "two", "none")), "ab"),
        (Comparison("name", "in", ("a",) * 9), ""),
        (Comparison("name", "in", ()), ""),
        (Comparison("status", "eq", "active"), "b"),
        (Comparison("status", "in", ("active", "queued")), "abc"),
        (Comparison("disk_format", "eq", "raw"), "a"),
        (Comparison("container_format", "in", ("bare",)), "a"),
        (Comparison("checksum", "eq", "c" * 32), "b"),
        (Comparison("os_hash_value", "eq", "d" * 128), "b"),
        (Comparison("owner", "eq", "ours"), "abc"),
        (Comparison("protected", "eq", True), "c"),
        (Comparison("protected", "eq", False), "ab"),
        (Comparison("size", "gte", 10), "bc"),
        (Comparison("size", "lte", 10), "b"),
        (Comparison("size", "gte", 2**63 - 1), "c"),
        (Comparison("size", "lte", -(10**30)), ""),
        (Comparison("min_ram", "eq", 5), "b"),
        (Comparison("min_disk", "gte", 10**30), ""),
        (Comparison("created_at", "eq", START + timedelta(hours=2)), "b"),
        (Comparison("created_at", "neq", START + timedelta(hours=2)), "ac"),
        (Comparison("created_at", "gt", START + timedelta(hours=2)), "c"),
        (Comparison("created_at", "gte", START + timedelta(hours=2)), "bc"),
        (Comparison("created_at", "lt", START + timedelta(hours=2)), "a"),
        (Comparison("updated_at", "lte", START + timedelta(hours=2)), "ab"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_comparisons(repository: Images, where: Comparison, matches: str) -> None:
    rows: dict[str, dict[str, Any]] = {
        "a": {"name": "one", "disk_format": "raw", "container_format": "bare"},
        "b": {
            "name": "two",
            "status": Status.ACTIVE,
            "size": 10,
            "min_ram": 5,
            "checksum": "c" * 32,
            "os_hash_value": "d" * 128,
        },
        "c": {"name": None, "protected": True, "size": 2**63 - 1},
    }
    named = {}
    for hour, (letter, values) in enumerate(rows.items(), 1):
        made = START + timedelta(hours=hour)
        image = await added(repository, created_at=made, updated_at=made, **values)
        named[image.id] = letter
    found = [named[image_id] for image_id in await ids(repository, where=(where,))]
    assert "".join(sorted(found)) == matches
    both = (where, Comparison("owner", "eq", "ours"), Comparison("id", "in", tuple(named)))
    assert len(await ids(repository, is_admin=True, where=both)) == len(matches)


@pytest_twisted.ensureDeferred
async def test_tags_and_properties_must_all_match(repository: Images, database: Database) -> None:
    first = await added(repository, tags=("a", "b"), properties={"k": "1", "l": "2"})
    second = await added(repository, tags=("a",), properties={"k": "1", "l": "3"})
    gone = await added(repository, tags=("a", "b"), properties={"k": "1", "l": "2"})
    for table in (image_tags, image_properties):
        await write(
            database, sa.update(table).where(table.c.image_id == gone.id).values(deleted=True)
        )
    assert await ids(repository, tags=("a", "b")) == [first.id]
    assert await ids(repository, tags=("a",)) == [second.id, first.id]
    assert await ids(repository, properties=(("k", "1"), ("l", "3"))) == [second.id]
    assert await ids(repository, properties=(("k", "1"),), tags=("b",)) == [first.id]
    assert await ids(repository, properties=(("unknown", "x"),)) == []


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("is_admin", [True, False])
async def test_as_many_filters_as_a_list_may_have(repository: Images, is_admin: bool) -> None:
    """PostgreSQL took minutes and gigabytes to plan a statement that joins as many tables."""
    names = [f"n{number}" for number in range(MOST_FILTERS // 2)]
    all_ = {"tags": tuple(names), "properties": dict.fromkeys(names, "v")}
    found = await added(repository, **all_)
    await added(repository, **{**all_, "tags": tuple(names[:-1])})
    await added(repository, **{**all_, "properties": dict.fromkeys(names[:-1], "v")})
    wanted = {"tags": tuple(names), "properties": tuple((name, "v") for name in names)}
    assert await ids(repository, is_admin=is_admin, **wanted) == [found.id]
    values = Comparison("id", "in", (found.id, *(f"x{n}" for n in range(MOST_VALUES - 1))))
    assert await ids(repository, is_admin=is_admin, where=(values,)) == [found.id]


# Lists: order and pages


@pytest_twisted.ensureDeferred
async def test_newest_first_and_ids_where_times_are_equal(repository: Images) -> None:
    older = await added(repository, id="5" * 36, created_at=START)
    same = [await added(repository, id=letter * 36, created_at=START) for letter in "1c"]
    newer = await added(repository, id="0" * 36)
    assert await ids(repository) == [newer.id, same[1].id, older.id, same[0].id]
    assert await ids(repository, limit=2) == [newer.id, same[1].id]
    assert await ids(repository, limit=0) == []
    assert await ids(repository, limit=2, marker=older.id) == [same[0].id]


@pytest_twisted.ensureDeferred
async def test_markers_that_are_no_image_of_the_list(
    repository: Images, world: Mapping[str, str]
) -> None:
    by_name = {name: image_id for image_id, name in world.items()}
    for marker in ("unknown", by_name["others private"], by_name["formerly with us"]):
        with pytest.raises(Invalid):
            await repository.list(query(marker=marker))
    for marker in (by_name["others community"], by_name["with us pending"]):
        await repository.list(query(marker=marker))
    assert await ids(repository, is_admin=True, marker=by_name["others private"]) != []


UNSEEN = {
    "None private",
    "others private",
    "others shared",
    "formerly with us",
    "made private again",
}


@pytest_twisted.ensureDeferred
async def test_a_deleted_image_keeps_its_place(
    repository: Images, world: Mapping[str, str]
) -> None:
    places = list(world.items())
    oldest, _ = places.pop(0)
    for gone, name in reversed(places):
        before = await ids(repository, is_admin=True, visibility="all", marker=gone)
        await repository.delete(gone, new_job(gone))
        after = await ids(repository, is_admin=True, visibility="all", marker=gone)
        assert before == after and after[-1] == oldest, name
        if name in UNSEEN:
            with pytest.raises(Invalid):
                await repository.list(query(marker=gone))
        else:
            assert (await ids(repository, visibility="all", marker=gone))[-1] == oldest, name
        if "public" not in name and "community" not in name and not name.startswith("None"):
            with pytest.raises(Invalid):
                await repository.list(query(project="strangers", marker=gone))


@pytest.mark.parametrize("key", ["status", "updated_at"])
@pytest_twisted.ensureDeferred
async def test_a_deleted_image_has_no_place_where_deleting_moves_it(
    repository: Images, key: str
) -> None:
    gone = await added(repository)
    sort: Any = ((key, "asc"), ("created_at", "asc"), ("id", "asc"))
    await repository.list(query(marker=gone.id, sort=sort))
    await repository.delete(gone.id, new_job(gone.id))
    for is_admin in (False, True):
        with pytest.raises(Invalid, match=f"No image found with ID {gone.id}"):
            await repository.list(query(is_admin=is_admin, marker=gone.id, sort=sort))


names = st.sampled_from([None, "", "a", "b", "\u2603"])
numbers = st.sampled_from([None, 0, 1, 2**63 - 1])
formats = st.sampled_from([None, "iso", "raw"])
keys = st.sampled_from(
    ["name", "status", "container_format", "disk_format", "size", "created_at", "updated_at"]
)
directions: st.SearchStrategy[Direction] = st.sampled_from(["asc", "desc"])
rows = st.fixed_dictionaries(
    {
        "name": names,
        "size": numbers,
        "disk_format": formats,
        "container_format": formats,
        "status": st.sampled_from([Status.QUEUED, Status.ACTIVE]),
        "created_at": st.sampled_from([START, START + timedelta(seconds=1)]),
    }
)


@settings(
    max_examples=examples(60),
    deadline=None,
    suppress_health_check=SHARING,
)
@given(
    present=st.lists(rows, max_size=12),
    coming=st.lists(rows, max_size=6),
    going=st.lists(st.sampled_from([0, -1, 1, 4]), max_size=6),
    sort=st.lists(st.tuples(keys, directions), max_size=3, unique_by=lambda key: key[0]),
    last=directions,
    limit=st.integers(1, 4),
)
@pytest_twisted.ensureDeferred
async def test_paging_neither_loses_nor_repeats(
    repository: Images,
    database: Database,
    present: list[dict[str, Any]],
    coming: list[dict[str, Any]],
    going: list[int],
    sort: list[tuple[str, Direction]],
    last: Direction,
    limit: int,
) -> None:
    """Between the pages an image comes, and one goes: counted from the marker, which is 0."""
    owner = str(uuid.uuid4())
    order = (*sort, ("id", last))
    moves = bool({"status", "updated_at"} & {key for key, _ in sort})

    async def add(values: dict[str, Any]) -> str:
        return (await added(repository, owner=owner, visibility=PRIVATE, **values)).id

    old = [await add(values) for values in present]
    if old:
        await write(
            database, sa.update(images).where(images.c.id == old[0]).values(updated_at=None)
        )
    whole = await ids(repository, project=owner, sort=order)
    seen: list[str] = []
    gone: set[str] = set()
    marker = None
    for _ in range(len(present) + len(coming) + 1):
        try:
            page = await ids(repository, project=owner, sort=order, limit=limit, marker=marker)
        except Invalid:
            assert marker in gone and moves
            return
        assert not gone & set(page)
        seen += page
        if len(page) < limit:
            break
        marker = page[-1]
        if coming:
            await add(coming.pop())
            whole = await ids(repository, project=owner, sort=order)
        near = whole.index(marker) + going.pop() if going and marker in whole else -1
        if 0 <= near < len(whole) and whole[near] not in gone:
            gone.add(whole[near])
            await repository.delete(whole[near], new_job(whole[near]))
    else:
        pytest.fail("paging does not end")
    assert len(seen) == len(set(seen))
    assert set(old) - gone <= set(seen)
    whole = await ids(repository, project=owner, sort=order)
    assert [image_id for image_id in whole if image_id in seen] == [
        image_id for image_id in seen if image_id not in gone
    ]
