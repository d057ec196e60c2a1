"""Pages of images with much that belongs to them: they end early, and nothing is left out."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest
import pytest_twisted

from imgservice.db.engine.database import Database, Rows, Transaction
from imgservice.db.engine.statement import Parameters, Statement
from imgservice.db.repositories.images import Images
from imgservice.domain.image import Image, Location, Status, Visibility
from imgservice.domain.limits import LONGEST_VALUE
from imgservice.domain.query import ImagePage, ImageQuery
from tests.contract.databases import database, database_url, sqlite_url

__all__ = ["database", "database_url", "sqlite_url"]

START = datetime(2026, 1, 1)
KiB = 1 << 10
FIELDS: Mapping[str, Any] = {
    "status": Status.QUEUED,
    "owner": "ours",
    "visibility": Visibility.SHARED,
    "updated_at": START,
}


class Measured:
    """A database that notes how many bytes of text each of its reads brings."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.reads: list[int] = []

    async def run(self, work: Any) -> Any:
        return await self._database.run(work)

    async def fetch(self, statement: Statement, parameters: Parameters, convert: Any) -> Any:
        return await self._database.fetch(
            statement, parameters, lambda found: convert(self._noted(found))
        )

    async def lookup(self, statement: Statement, parameters: Parameters, convert: Any) -> Any:
        return await self.fetch(statement, parameters, convert)

    async def read(self, work: Any) -> Any:
        return await self._database.read(lambda one: work(_MeasuredTransaction(one, self._noted)))

    async def close(self) -> None:
        """The other one is closed by whoever made it."""

    def _noted(self, found: Rows) -> Rows:
        texts = (value for row in found.rows for value in row if isinstance(value, str))
        self.reads.append(sum(map(len, texts)))
        return found


class _MeasuredTransaction:
    def __init__(self, transaction: Transaction, note: Any) -> None:
        self._transaction = transaction
        self._note = note

    async def execute(self, statement: Statement, parameters: Parameters) -> Rows:
        found: Rows = self._note(await self._transaction.execute(statement, parameters))
        return found

    async def execute_many(self, statement: Statement, parameters: Sequence[Parameters]) -> None:
        await self._transaction.execute_many(statement, parameters)


@pytest.fixture
def measured(database: Database) -> Measured:
    return Measured(database)


@pytest.fixture
def images(measured: Measured) -> Images:
    return Images(measured)


async def add(images: Images, *lengths: int, **more: Any) -> list[str]:
    """Add images, each older than the one before, with so many characters in properties."""
    for number, length in enumerate(lengths):
        half, rest = "x" * (length // 2), "ä" * (length // 16)
        fields = {"properties": {"a": half, **{f"b{n}": rest for n in range(4)}}, **more}
        made = START - timedelta(seconds=number)
        await images.add(Image(id=f"{number:036}", created_at=made, **{**FIELDS, **fields}))
    return [f"{number:036}" for number in range(len(lengths))]


async def page(images: Images, most_bytes: int, marker: str | None = None) -> ImagePage:
    query = ImageQuery("ours", is_admin=True, limit=20, most_bytes=most_bytes, marker=marker)
    return await images.list(query)


async def walk(images: Images, most_bytes: int) -> list[list[str]]:
    """Return the ids of all pages."""
    found, marker = [], None
    while True:
        one = await page(images, most_bytes, marker)
        found.append([image.id for image in one.images])
        marker = one.last
        if marker is None:
            return found
        assert marker == found[-1][-1]


@pytest_twisted.ensureDeferred
async def test_a_page_ends_where_it_would_be_too_long(images: Images) -> None:
    ids = await add(images, *[30 * KiB] * 10)
    assert await walk(images, 100 * KiB) == [ids[:3], ids[3:6], ids[6:9], ids[9:]]
    assert await walk(images, 8 << 20) == [ids]


@pytest_twisted.ensureDeferred
async def test_one_image_is_shown_however_long_it_is(images: Images) -> None:
    ids = await add(images, 10, 120 * KiB, 120 * KiB, 10, 10)
    assert await walk(images, 64 * KiB) == [ids[:1], ids[1:2], ids[2:3], ids[3:]]


@pytest_twisted.ensureDeferred
async def test_all_of_an_image_is_shown_whether_it_is_long_or_short(images: Images) -> None:
    await add(images, *[20 * KiB, 8, 20 * KiB, 8])
    found = (await page(images, 64 * KiB)).images
    for image in found:
        assert image == await images.get(image.id, "ours")
    assert [len(image.properties["a"] or "") for image in found] == [10 * KiB, 4, 10 * KiB, 4]


@pytest_twisted.ensureDeferred
async def test_tags_and_locations_count_as_well(images: Images) -> None:
    many = tuple(f"{number:0200}" for number in range(100))
    ids = await add(images, *[0] * 4, tags=many)
    assert await walk(images, 64 * KiB) == [ids[:3], ids[3:]]


@pytest_twisted.ensureDeferred
async def test_long_locations(images: Images) -> None:
    far = (Location("https://there/" + "x" * 10_000, {"store": "s", "more": "y" * 10_000}),)
    ids = await add(images, *[0] * 4, locations=far)
    assert await walk(images, 64 * KiB) == [ids[:3], ids[3:]]
    assert (await page(images, 64 * KiB)).images[0].locations[0].url == far[0].url


@pytest_twisted.ensureDeferred
async def test_no_more_is_read_than_is_shown(images: Images, measured: Measured) -> None:
    ids = await add(images, *[30 * KiB] * 20)
    for marker in (None, ids[4]):
        measured.reads.clear()
        assert len((await page(images, 100 * KiB, marker)).images) == 3
        assert sum(measured.reads) < 120 * KiB


@pytest_twisted.ensureDeferred
async def test_the_longest_values_fit(images: Images) -> None:
    """Those that `limits.property_value` allows, unless the operator says otherwise."""
    longest = {"a": "x" * LONGEST_VALUE, "b": "\uffff" * (LONGEST_VALUE // 3)}
    [image_id] = await add(images, 0, properties=longest)
    assert (await images.get(image_id)).properties == longest


@pytest_twisted.ensureDeferred
async def test_an_ordinary_page_is_one_statement(images: Images, measured: Measured) -> None:
    await add(images, *[100] * 20)
    measured.reads.clear()
    assert len((await page(images, 64 * KiB)).images) == 20
    assert len(measured.reads) == 1
