"""Reading the data of images without a server: what is opened, in which order, and closed."""

import os
import shutil
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing
from datetime import datetime
from pathlib import Path

import attrs
import pytest
import pytest_twisted

from imgservice.concurrency.reactor import installed_reactor
from imgservice.concurrency.threads import Threads
from imgservice.db.engine.database import Database
from imgservice.db.repositories.images import Images
from imgservice.domain.access import Access
from imgservice.domain.context import Context
from imgservice.domain.errors import Forbidden, ImageNotFound, Invalid, Unavailable
from imgservice.domain.image import Image, Location, Status
from imgservice.policy.defaults import DefaultRules
from imgservice.service.copies import OpenBlocks, OpenFile
from imgservice.service.reading import ImageData, ReadingService
from imgservice.store.choose import Stores
from imgservice.store.file.config import FileConfig
from imgservice.store.file.store import FileStore
from imgservice.store.interface import StoreUnavailable
from imgservice.store.memory import MemoryConfig, MemoryStore
from imgservice.telemetry.events import EventHub
from imgservice.troubles import Troubles
from tests.sqlite import database, database_url, sqlite_url

__all__ = ["database", "database_url", "sqlite_url"]  # fixtures

DATA = bytes(range(256)) * 4096
OWNER = Context("alice", "red", frozenset({"member", "reader"}))
READER = Context("bob", "red", frozenset({"reader"}))
STRANGER = Context("carol", "blue", frozenset({"member", "reader"}))
ADMIN = Context("root", "cloud", frozenset({"admin", "member", "reader"}), is_admin=True)


@attrs.frozen
class World:
    """A file store, a second one, and a store in memory, all of the same images."""

    directory: Path
    images: Images
    stores: Stores
    reading: ReadingService
    notes: list[str]

    async def image(self, *store_ids: str, status: Status = Status.ACTIVE) -> Image:
        """Return an image with copies of `DATA` in these stores."""
        image_id, now = str(uuid.uuid4()), datetime(2026, 3, 1)
        locations = [await self.location(image_id, store_id) for store_id in store_ids]
        image = Image(
            id=image_id,
            status=status,
            created_at=now,
            updated_at=now,
            owner="red",
            size=len(DATA),
            locations=tuple(locations),
        )
        await self.images.add(image)
        return image

    async def location(self, image_id: str, store_id: str) -> Location:
        if store_id not in self.stores.ids:
            return Location(f"{store_id}://{image_id}", {"store": store_id})
        _, store = self.stores.chosen(store_id)
        stored = await store.add(image_id, _blocks(), len(DATA))
        return Location(stored.url, {"store": store_id})

    async def lose(self, image: Image, store_id: str) -> None:
        """Remove a copy behind the service's back."""
        (url,) = [one.url for one in image.locations if one.store == store_id]
        await self.stores.chosen(store_id)[1].delete(url)

    def path(self, image: Image, store_id: str) -> Path:
        return self.directory / store_id / image.id

    def unmount(self, store_id: str) -> None:
        shutil.rmtree(self.directory / store_id)

    async def find(self, image: Image, *prefer: str) -> ImageData:
        return await self.reading.find(OWNER, image.id, prefer)


class _Failing(MemoryStore):
    """A store that fails after some bytes."""

    async def read(
        self, url: str, start: int = 0, length: int | None = None
    ) -> AsyncGenerator[bytes, None]:
        async with aclosing(super().read(url, start, 100_000)) as blocks:
            async for block in blocks:
                yield block
        raise StoreUnavailable("the cable is out")


async def _blocks() -> AsyncIterator[bytes]:
    yield DATA


@pytest.fixture
def threads() -> Iterator[Threads]:
    threads = Threads(installed_reactor(), 2, "test")
    yield threads
    threads.stop()


@pytest_twisted.async_yield_fixture
async def world(database: Database, tmp_path: Path, threads: Threads) -> AsyncIterator[World]:
    files = {
        name: FileStore(name, FileConfig(path=str(tmp_path / name)), threads)
        for name in ("disk", "other disk")
    }
    for store in files.values():
        await store.check()
    in_memory = {
        "memory": MemoryStore("memory", MemoryConfig(), threads),
        "failing": _Failing("failing", MemoryConfig(), threads),
    }
    stores = Stores({**files, **in_memory}, "disk")
    images = Images(database, lease_time=60)
    events = EventHub((), Troubles())
    notes: list[str] = []
    reading = ReadingService(images, stores, Access(DefaultRules()), events, notes.append)
    yield World(tmp_path, images, stores, reading, notes)


async def content(opened: OpenBlocks | OpenFile | None) -> bytes:
    assert opened is not None
    async with aclosing(opened):
        if isinstance(opened, OpenFile):
            return os.pread(opened.descriptor, opened.length, opened.start)
        return b"".join([block async for block in opened.blocks()])


# -- what a caller may read -----------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_data_is_found_for_those_who_may_download(world: World) -> None:
    image = await world.image("disk")
    found = await world.reading.find(OWNER, image.id)
    assert (found.image.id, found.size, len(found.copies)) == (image.id, len(DATA), 1)
    with pytest.raises(Forbidden):
        await world.reading.find(READER, image.id)
    with pytest.raises(ImageNotFound):
        await world.reading.find(STRANGER, image.id)


@pytest_twisted.ensureDeferred
async def test_deactivated_images_are_for_administrators(world: World) -> None:
    image = await world.image("disk", status=Status.DEACTIVATED)
    with pytest.raises(Forbidden, match="deactivated"):
        await world.reading.find(OWNER, image.id)
    assert (await world.reading.find(ADMIN, image.id)).copies


@pytest_twisted.ensureDeferred
async def test_an_image_without_data_has_no_copies(world: World) -> None:
    image = await world.image(status=Status.QUEUED)
    assert (await world.find(image)).copies == ()


@pytest_twisted.ensureDeferred
async def test_stores_that_are_not_configured_are_passed_over(world: World) -> None:
    image = await world.image("tape", "disk")
    assert len((await world.find(image)).copies) == 1
    image = await world.image("tape")
    with pytest.raises(Unavailable):
        await world.find(image)


@pytest_twisted.ensureDeferred
async def test_preferred_stores_come_first(world: World) -> None:
    image = await world.image("disk", "memory")
    found = await world.find(image, "memory")
    assert [copy.url.partition(":")[0] for copy in found.copies] == ["memory", "file"]
    with pytest.raises(Invalid):
        await world.find(image, "tape")


# -- opening --------------------------------------------------------------------------------------


@pytest.mark.parametrize("store_id", ["disk", "memory"])
@pytest.mark.parametrize(
    ("start", "length"), [(0, None), (5, None), (0, 0), (0, 1), (300_000, 300_000), (5, 10**9)]
)
@pytest_twisted.ensureDeferred
async def test_ranges(world: World, store_id: str, start: int, length: int | None) -> None:
    found = await world.find(await world.image(store_id))
    expected = DATA[start:][:length]
    assert await content(await found.open(start, length)) == expected
    assert await content(await found.open_file(start, length)) == expected


@pytest_twisted.ensureDeferred
async def test_only_local_files_are_opened_as_files(world: World) -> None:
    for store_id, kind in (("disk", OpenFile), ("memory", OpenBlocks)):
        found = await world.find(await world.image(store_id))
        for opened, wanted in ((await found.open_file(), kind), (await found.open(), OpenBlocks)):
            assert isinstance(opened, wanted)
            await opened.aclose()


@pytest.mark.parametrize("as_file", [True, False])
@pytest_twisted.ensureDeferred
async def test_the_next_copy_is_opened_when_one_is_lost(world: World, as_file: bool) -> None:
    image = await world.image("disk", "other disk", "memory")
    found = await world.find(image)
    open_data = found.open_file if as_file else found.open
    await world.lose(image, "disk")
    assert await content(await open_data()) == DATA
    world.unmount("other disk")
    assert await content(await open_data(7, 9)) == DATA[7:16]


@pytest.mark.parametrize("as_file", [True, False])
@pytest_twisted.ensureDeferred
async def test_data_that_no_store_has(world: World, as_file: bool) -> None:
    image = await world.image("disk", "memory")
    found = await world.find(image)
    for store_id in ("disk", "memory"):
        await world.lose(image, store_id)
    assert await (found.open_file() if as_file else found.open()) is None


@pytest.mark.parametrize("as_file", [True, False])
@pytest_twisted.ensureDeferred
async def test_data_that_a_store_may_have(world: World, as_file: bool) -> None:
    """A store that fails decides, wherever it stands: another time it may have the data."""
    image = await world.image("disk", "memory")
    found = await world.find(image)
    await world.lose(image, "memory")
    world.unmount("disk")
    with pytest.raises(Unavailable):
        await (found.open_file() if as_file else found.open())


# -- copies that break ----------------------------------------------------------------------------


@pytest.mark.parametrize("following", [["other disk"], ["memory"], ["tape", "memory"]])
@pytest.mark.parametrize("start", [0, 70_000])
@pytest_twisted.ensureDeferred
async def test_another_copy_continues_one_that_became_short(
    world: World, following: list[str], start: int
) -> None:
    image = await world.image("disk", *following)
    world.path(image, "disk").write_bytes(DATA[:300_000])
    found = await world.find(image)
    assert await content(await found.open(start)) == DATA[start:]
    [note] = world.notes
    assert note == (
        f"Image {image.id}: its copy in store disk broke at byte 300000 (there is no more data),"
        f" and was continued from store {following[-1]}"
    )


@pytest_twisted.ensureDeferred
async def test_several_copies_break(world: World) -> None:
    image = await world.image("disk", "other disk", "memory")
    world.path(image, "disk").write_bytes(DATA[:200_000])
    world.path(image, "other disk").write_bytes(DATA[:500_000])
    found = await world.find(image)
    assert await content(await found.open()) == DATA
    assert len(world.notes) == 2


@pytest_twisted.ensureDeferred
async def test_a_store_that_fails_in_the_middle(world: World) -> None:
    image = await world.image("failing", "disk")
    found = await world.find(image)
    assert await content(await found.open()) == DATA
    assert "(the cable is out)" in world.notes[0]
    await world.lose(image, "disk")
    opened = await (await world.find(image)).open()
    with pytest.raises(Unavailable, match="the cable is out"):
        await content(opened)
    assert len(world.notes) == 1


@pytest_twisted.ensureDeferred
async def test_data_that_is_too_short_everywhere_ends(world: World) -> None:
    image = await world.image("disk", "other disk")
    for store_id in ("disk", "other disk"):
        world.path(image, store_id).write_bytes(DATA[:200_000])
    assert await content(await (await world.find(image)).open()) == DATA[:200_000]
    assert world.notes == []


@pytest_twisted.ensureDeferred
async def test_a_file_that_broke_is_continued_as_blocks(world: World) -> None:
    image = await world.image("disk", "memory")
    opened = await (await world.find(image)).open_file(5)
    assert isinstance(opened, OpenFile)
    async with aclosing(opened):
        rest = await opened.rest(300_000, OSError("the disk is gone"))
        assert await content(rest) == DATA[300_005:]
        assert "(the disk is gone)" in world.notes[0]
        await world.lose(image, "memory")
        assert await opened.rest(0, OSError("the disk is gone")) is None


# -- closing --------------------------------------------------------------------------------------


def descriptors_of(image: Image) -> list[Path]:
    open_now = [entry for entry in Path("/proc/self/fd").iterdir() if entry.is_symlink()]
    return [entry for entry in open_now if entry.readlink().name == image.id]


@pytest.mark.parametrize("as_file", [True, False])
@pytest.mark.parametrize("reads", [True, False])
@pytest_twisted.ensureDeferred
async def test_closing_leaves_nothing_open(
    world: World, threads: Threads, as_file: bool, reads: bool
) -> None:
    image = await world.image("disk")
    found = await world.find(image)
    opened = await (found.open_file() if as_file else found.open())
    assert opened is not None
    assert len(descriptors_of(image)) == 1
    if reads and isinstance(opened, OpenBlocks):
        await anext(opened.blocks())
    await opened.aclose()
    await _until_closed(threads, image)


async def _until_closed(threads: Threads, image: Image) -> None:
    """Let the threads do what closing left to them."""
    for _ in range(1000):
        if not descriptors_of(image):
            return
        await threads.run(lambda: None)
    pytest.fail("the file is still open")
