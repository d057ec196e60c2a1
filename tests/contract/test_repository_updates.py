"""What every database must make of changes to images, and of members."""

import itertools
import random
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import attrs
import pytest
import pytest_twisted
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy.dialects import mysql, postgresql
from twisted.internet.defer import Deferred, gatherResults

from imgservice.db.engine.database import Database, Rows, Transaction, Work
from imgservice.db.engine.statement import Parameters, Statement
from imgservice.db.repositories import changes
from imgservice.db.repositories.images import Images
from imgservice.db.repositories.members import Members
from imgservice.db.schema.tables import image_members, image_properties, image_tags, images
from imgservice.domain.errors import (
    Conflict,
    DuplicateMember,
    Forbidden,
    ImageNotFound,
    MemberNotFound,
    TooLarge,
)
from imgservice.domain.image import Image, Status, Visibility
from imgservice.domain.member import MemberStatus
from imgservice.domain.names import IMPORT_LOCK
from imgservice.service.ports import MemberRepository
from tests.contract.databases import database, database_url, sqlite_url
from tests.contract.test_repository import (
    START,
    Clock,
    added,
    clock,
    new_job,
    read,
    repository,
    write,
)
from tests.examples import SHARING, examples

__all__ = [  # fixtures
    "clock",
    "database",
    "database_url",
    "repository",
    "sqlite_url",
]

Change = Callable[[Image], Image]


@pytest.fixture
def members(database: Database, clock: Clock) -> MemberRepository:
    return Members(database, clock)


def setting(**values: Any) -> Change:
    return lambda image: attrs.evolve(image, **values)


def with_property(name: str, value: str) -> Change:
    return lambda image: attrs.evolve(image, properties={**image.properties, name: value})


def with_tag(tag: str) -> Change:
    return lambda image: attrs.evolve(image, tags=(*image.tags, tag))


async def property_rows(database: Database, image: Image) -> Sequence[Any]:
    columns = image_properties.c
    found = sa.select(columns.id, columns.name, columns.value, columns.deleted, columns.deleted_at)
    return await read(database, found.where(columns.image_id == image.id).order_by(columns.id))


# -- images ---------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_update_records_what_differs(repository: Images, clock: Clock) -> None:
    image = await added(repository, tags=("a", "b"), properties={"keep": "1", "drop": "2"})
    other = await added(repository, tags=("a",), properties={"keep": "1"})
    change = setting(
        name=None,
        owner="theirs",
        visibility=Visibility.PUBLIC,
        protected=True,
        os_hidden=True,
        disk_format="raw",
        container_format="bare",
        min_disk=3,
        min_ram=4,
        tags=("b", "c"),
        properties={"keep": "new", "more": "3"},
    )
    changed = await repository.update(image.id, change)
    assert changed == await repository.get(image.id)
    assert changed == attrs.evolve(change(image), updated_at=clock.time)
    assert await repository.get(other.id) == other


@pytest.mark.parametrize(
    "change", [setting(name="n"), setting(tags=("t",)), with_property("p", "1"), attrs.evolve]
)
@pytest_twisted.ensureDeferred
async def test_every_change_moves_updated_at(repository: Images, change: Change) -> None:
    image = await added(repository)
    assert (await repository.update(image.id, change)).updated_at > image.updated_at
    assert (await repository.get(image.id)).updated_at > image.updated_at


@pytest_twisted.ensureDeferred
async def test_the_same_image_is_no_change(repository: Images) -> None:
    image = await added(repository)
    assert await repository.update(image.id, lambda found: found) == image
    assert await repository.get(image.id) == image


@pytest_twisted.ensureDeferred
async def test_what_a_change_raises_undoes_it(repository: Images) -> None:
    image = await added(repository)

    def refuse(found: Image) -> Image:
        assert found == image
        raise Forbidden("no")

    with pytest.raises(Forbidden):
        await repository.update(image.id, refuse)
    assert await repository.get(image.id) == image


@pytest_twisted.ensureDeferred
async def test_only_living_images_change(repository: Images) -> None:
    image = await added(repository)
    await repository.delete(image.id, new_job(image.id, kind="delete"))
    for gone in (image.id, "never-was"):
        with pytest.raises(ImageNotFound):
            await repository.update(gone, setting(name="n"))


@pytest_twisted.ensureDeferred
async def test_update_tells_the_membership(repository: Images, members: MemberRepository) -> None:
    image = await added(repository)
    await members.add(image.id, "theirs", 10)
    seen = []

    def look(found: Image) -> Image:
        seen.append(found.membership)
        return found

    await repository.update(image.id, look, "theirs")
    await repository.update(image.id, look, "others")
    assert seen == ["pending", None]


@pytest_twisted.ensureDeferred
async def test_a_property_keeps_its_row_for_ever(
    repository: Images, database: Database, clock: Clock
) -> None:
    image = await added(repository, properties={"p": "1"})
    [(row, *_)] = await property_rows(database, image)
    await repository.update(image.id, setting(properties={}))
    removed = clock.time
    assert await property_rows(database, image) == [(row, "p", "1", True, removed)]
    assert (await repository.get(image.id)).properties == {}
    await repository.update(image.id, with_property("p", "2"))
    assert await property_rows(database, image) == [(row, "p", "2", False, None)]


@pytest_twisted.ensureDeferred
async def test_properties_that_do_not_change_are_left_alone(
    repository: Images, database: Database
) -> None:
    image = await added(repository, properties={"p": "1"})
    await write(
        database,
        sa.insert(image_properties).values(
            image_id=image.id, name="old", value=None, created_at=START, deleted=False
        ),
    )
    before = await read(database, sa.select(image_properties).order_by(image_properties.c.id))
    await repository.update(image.id, with_property("q", "2"))
    after = await read(database, sa.select(image_properties).order_by(image_properties.c.id))
    assert list(after[:2]) == list(before)


@pytest_twisted.ensureDeferred
async def test_the_lock_of_an_import_is_never_written(
    repository: Images, database: Database
) -> None:
    image = await added(repository)
    free = await added(repository)
    await write(
        database,
        sa.insert(image_properties).values(
            image_id=image.id, name=IMPORT_LOCK, value="a-task", created_at=START, deleted=False
        ),
    )
    await repository.update(image.id, setting(properties={"p": "1"}))
    assert (await repository.get(image.id)).properties == {"p": "1", IMPORT_LOCK: "a-task"}
    await repository.update(free.id, with_property(IMPORT_LOCK, "mine"))
    assert await property_rows(database, free) == []


@pytest_twisted.ensureDeferred
async def test_removed_tags_keep_their_rows(
    repository: Images, database: Database, clock: Clock
) -> None:
    image = await added(repository, tags=("a",))
    await repository.update(image.id, setting(tags=()))
    removed = clock.time
    await repository.update(image.id, setting(tags=("a",)))
    columns = image_tags.c
    rows = await read(
        database,
        sa.select(columns.value, columns.deleted, columns.deleted_at).order_by(columns.id),
    )
    assert rows == [("a", True, removed), ("a", False, None)]
    assert (await repository.get(image.id)).tags == ("a",)


@pytest_twisted.ensureDeferred
async def test_a_deletion_takes_what_an_update_has_added(repository: Images) -> None:
    image = await added(repository)
    await repository.update(image.id, setting(tags=("t",), properties={"p": "1"}))
    await repository.delete(image.id, new_job(image.id, kind="delete"))
    with pytest.raises(ImageNotFound):
        await repository.get(image.id)


class Counting:
    """A database that counts the statements of its transactions."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.count = 0

    async def run(self, work: Work[Any]) -> Any:
        async def counted(transaction: Transaction) -> Any:
            return await work(_CountingTransaction(transaction, self))

        return await self._database.run(counted)


@attrs.frozen
class _CountingTransaction:
    _inner: Transaction
    _counting: Counting

    async def execute(self, statement: Statement, parameters: Parameters) -> Rows:
        self._counting.count += 1
        return await self._inner.execute(statement, parameters)

    async def execute_many(self, statement: Statement, parameters: Sequence[Parameters]) -> None:
        self._counting.count += bool(parameters)
        await self._inner.execute_many(statement, parameters)


@pytest.mark.parametrize(
    ("change", "most"),
    [
        (setting(name="n"), 3),
        (with_property("new", "1"), 4),
        (setting(tags=("c", "d"), properties={"b": "2", "c": "3"}, name="n"), 6),
        (setting(properties={str(number): "" for number in range(62)}), 4),  # and two that go
        (setting(properties={str(number): "" for number in range(63)}), 5),
    ],
)
@pytest_twisted.ensureDeferred
async def test_few_statements(
    repository: Images, database: Database, change: Change, most: int
) -> None:
    image = await added(repository, tags=("a", "b"), properties={"a": "1", "b": "1"})
    counting = Counting(database)
    await Images(counting).update(image.id, change)  # type: ignore[arg-type]
    assert counting.count <= most


@pytest.mark.parametrize("rows", [1, 2])
@pytest.mark.parametrize("dialect", [postgresql, mysql])
def test_the_text_for_other_databases(dialect: Any, rows: int) -> None:
    """Written by hand, so that it must be looked at where no such database is."""
    text = (
        changes.WRITE_PROPERTIES.statement(rows).compiled(dialect.dialect(paramstyle="format")).sql
    )
    assert "RETURNING" not in text
    assert text.count("(%s") == rows
    ending = "ON DUPLICATE KEY UPDATE" if dialect is mysql else "ON CONFLICT (image_id, name)"
    assert ending in text[text.index("VALUES") :]


# -- at the same time -----------------------------------------------------------------------------


async def together(*running: Any) -> list[Any]:
    return await gatherResults([Deferred.fromCoroutine(each) for each in running])


@pytest_twisted.ensureDeferred
async def test_changes_at_the_same_time_all_survive(repository: Images, database: Database) -> None:
    image = await added(repository, tags=())
    nodes = [repository, Images(database)]
    steps: list[Change] = [with_property(f"p{n}", str(n)) for n in range(40)]
    steps += [with_tag(f"t{n:02}") for n in range(40)]
    random.Random(3).shuffle(steps)
    await together(
        *(node.update(image.id, step) for node, step in zip(itertools.cycle(nodes), steps))
    )
    found = await repository.get(image.id)
    assert found.properties == {f"p{n}": str(n) for n in range(40)}
    assert found.tags == tuple(f"t{n:02}" for n in range(40))


@pytest_twisted.ensureDeferred
async def test_of_changes_that_exclude_each_other_one_wins(repository: Images) -> None:
    image = await added(repository)

    def first(found: Image) -> Image:
        if found.name == "taken":
            raise Conflict("too late")
        return attrs.evolve(found, name="taken")

    async def outcome() -> bool:
        try:
            await repository.update(image.id, first)
        except Conflict:
            return False
        return True

    assert sum(await together(*(outcome() for _ in range(20)))) == 1


@pytest_twisted.ensureDeferred
async def test_changes_and_a_deletion(repository: Images, database: Database) -> None:
    image = await added(repository)

    async def change(number: int) -> None:
        try:
            await repository.update(image.id, with_property(f"p{number}", "1"))
        except ImageNotFound:
            return

    job = new_job(image.id, kind="delete")
    await together(
        *map(change, range(10)), repository.delete(image.id, job), *map(change, range(10, 20))
    )
    live = sa.select(image_properties.c.id).where(image_properties.c.deleted == sa.false())
    assert await read(database, live) == []


TAGS = st.sets(st.sampled_from("abcd"))
PROPERTIES = st.dictionaries(st.sampled_from("abcd"), st.text("xyz", max_size=2))


@settings(
    max_examples=examples(30),
    deadline=None,
    suppress_health_check=SHARING,
)
@given(states=st.lists(st.tuples(TAGS, PROPERTIES, st.none() | st.text("xyz")), max_size=6))
@pytest_twisted.ensureDeferred
async def test_any_row_of_changes_reads_as_it_was_written(
    repository: Images, database: Database, states: list[Any]
) -> None:
    image = await added(repository)
    for tags, properties, name in states:
        change = setting(tags=tuple(sorted(tags)), properties=properties, name=name)
        changed = await repository.update(image.id, change)
        assert await repository.get(image.id) == changed
    rows = [name for _, name, *_ in await property_rows(database, image)]
    assert len(rows) == len(set(rows))


@pytest.mark.parametrize("name", ["disk_format", "container_format"])
@pytest_twisted.ensureDeferred
async def test_an_upload_begins_with_the_formats_that_were_seen(
    repository: Images, name: str
) -> None:
    seen = await added(repository, disk_format="raw", container_format="bare")
    other = await repository.update(seen.id, setting(**{name: "ari"}))
    await repository.update(seen.id, setting(name="n"))
    with pytest.raises(Conflict, match="formats"):
        await repository.begin_upload(new_job(seen.id), seen)
    assert (await repository.get(seen.id)).status is Status.QUEUED
    await repository.begin_upload(new_job(seen.id), other)
    assert (await repository.get(seen.id)).status is Status.SAVING


# -- status ---------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_a_status_changes_too(repository: Images, database: Database) -> None:
    image = await added(repository, status=Status.ACTIVE)
    changed = await repository.update(image.id, setting(status=Status.DEACTIVATED))
    assert changed.status is Status.DEACTIVATED
    assert await read(database, sa.select(images.c.status)) == [("deactivated",)]


# -- members --------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_members_come_decide_and_go(
    repository: Images, members: MemberRepository, clock: Clock
) -> None:
    image, other = await added(repository), await added(repository)
    first = await members.add(image.id, "b", 10)
    assert (first.project, first.image_id, first.status) == ("b", image.id, MemberStatus.PENDING)
    assert first.created_at == first.updated_at == clock.time
    second = await members.add(image.id, "a", 10)
    await members.add(other.id, "a", 10)
    assert await members.list(image.id) == [first, second]
    accepted = await members.set_status(image.id, "b", MemberStatus.ACCEPTED)
    assert accepted == attrs.evolve(first, status=MemberStatus.ACCEPTED, updated_at=clock.time)
    assert await members.get(image.id, "b") == accepted
    await members.remove(image.id, "b")
    assert await members.list(image.id) == [second]
    assert len(await members.list(other.id)) == 1


@pytest_twisted.ensureDeferred
async def test_who_is_no_member(repository: Images, members: MemberRepository) -> None:
    image = await added(repository)
    await members.add(image.id, "gone", 10)
    await members.remove(image.id, "gone")
    for project in ("gone", "never"):
        for use in (
            members.get(image.id, project),
            members.set_status(image.id, project, MemberStatus.ACCEPTED),
            members.remove(image.id, project),
        ):
            with pytest.raises(MemberNotFound):
                await use


@pytest_twisted.ensureDeferred
async def test_a_member_keeps_its_row(
    repository: Images, members: MemberRepository, database: Database, clock: Clock
) -> None:
    image = await added(repository)
    await members.add(image.id, "p", 10)
    created: datetime = clock.time
    await members.set_status(image.id, "p", MemberStatus.REJECTED)
    await members.remove(image.id, "p")
    columns = image_members.c
    rows = sa.select(columns.status, columns.deleted, columns.deleted_at, columns.created_at)
    assert await read(database, rows) == [("rejected", True, clock.time, created)]
    again = await members.add(image.id, "p", 10)
    assert (again.status, again.created_at) == (MemberStatus.PENDING, created)
    assert await read(database, rows) == [("pending", False, None, created)]


@pytest_twisted.ensureDeferred
async def test_nobody_is_a_member_twice(
    repository: Images, members: MemberRepository, database: Database
) -> None:
    image = await added(repository)

    async def add() -> bool:
        try:
            await members.add(image.id, "p", 10)
        except DuplicateMember:
            return False
        return True

    assert sum(await together(*(add() for _ in range(10)))) == 1
    assert len(await read(database, sa.select(image_members.c.id))) == 1


@pytest_twisted.ensureDeferred
async def test_members_are_counted(repository: Images, members: MemberRepository) -> None:
    image = await added(repository)
    await members.add(image.id, "gone", 2)
    await members.remove(image.id, "gone")

    async def add(project: str) -> bool:
        try:
            await members.add(image.id, project, 2)
        except TooLarge:
            return False
        return True

    assert sum(await together(*(add(f"p{n}") for n in range(6)))) == 2
    await members.add(image.id, "one more", -1)


@pytest_twisted.ensureDeferred
async def test_only_living_images_get_members(
    repository: Images, members: MemberRepository
) -> None:
    image = await added(repository)
    await repository.delete(image.id, new_job(image.id, kind="delete"))
    with pytest.raises(ImageNotFound):
        await members.add(image.id, "p", 10)
