"""What every store does, whatever it is made of; a new driver is one line in `stores.DRIVERS`."""

import hashlib
import os
import random
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import attrs
import pytest
import pytest_twisted
from twisted.internet import reactor as installed_reactor
from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from imgservice.concurrency.threads import Threads
from imgservice.store.interface import (
    DataExists,
    DataNotFound,
    KeepsConnections,
    LocalFiles,
    Stored,
    StoreReadOnly,
)
from tests.contract.stores import DRIVERS, READ_ONLY, Subject

MIB = 1024 * 1024
reactor = cast(Any, installed_reactor)


class Disturbance(Exception):
    """What a source raises in these tests."""


@attrs.define
class Bench:
    """A store with what the tests need around it; removes at the end what `add` added."""

    subject: Subject
    added: list[str] = attrs.field(factory=list)

    @property
    def store(self) -> Any:
        return self.subject.store

    async def add(
        self, image_id: str, data: AsyncIterator[bytes], size: int | None = None
    ) -> Stored:
        stored = await self.subject.store.add(image_id, data, size)
        self.added.append(stored.url)
        return stored

    async def place(self, data: bytes) -> str:
        """Put an object into the store, by itself or behind its back, and return its URL."""
        if self.subject.put is not None:
            return self.subject.put(new_id(), data)
        return (await self.add(new_id(), source([data]), len(data))).url

    async def read(self, url: str, start: int = 0, length: int | None = None) -> bytes:
        return b"".join([block async for block in self.store.read(url, start, length)])


@pytest_twisted.async_yield_fixture(params=DRIVERS.values(), ids=DRIVERS.keys())
async def bench(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Bench]:
    """Fails the test that leaves a descriptor open or an object behind."""
    async for bench in benches(request, tmp_path):
        yield bench


@pytest_twisted.async_yield_fixture(params=READ_ONLY.values(), ids=READ_ONLY.keys())
async def read_only(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Bench]:
    async for bench in benches(request, tmp_path):
        yield bench


ALL = {**DRIVERS, **READ_ONLY}


@pytest_twisted.async_yield_fixture(params=ALL.values(), ids=ALL.keys())
async def readable(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Bench]:
    """For what every store does, whether it takes data or not."""
    async for bench in benches(request, tmp_path):
        yield bench


async def benches(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Bench]:
    threads = Threads(reactor, 3, "store")
    bench = Bench(await request.param(tmp_path, threads))
    before = descriptors()
    yield bench
    for url in bench.added:
        await bench.store.delete(url)
    if isinstance(bench.store, KeepsConnections):
        await bench.store.close()
    leaked = await settled(lambda: sorted((descriptors() - before).elements()))
    left = await bench.subject.leftovers()
    threads.stop()
    bench.subject.stop()
    assert leaked == []
    assert left == []


def descriptors() -> Counter[str]:
    """Count the open descriptors by what they are open on."""
    found: Counter[str] = Counter()
    for path in Path("/proc/self/fd").iterdir():
        try:
            found[str(path.readlink())] += 1
        except FileNotFoundError:  # the one that lists the folder
            continue
    return found


async def settled(look: Callable[[], list[str]]) -> list[str]:
    """Return what `look` finds, once that is nothing or a minute has passed."""
    for _ in range(6000):
        if not look():
            break
        await pause(0.01)
    return look()


async def pause(seconds: float) -> None:
    await deferLater(cast(IReactorTime, reactor), seconds)


async def source(blocks: Iterable[bytes]) -> AsyncGenerator[bytes, None]:
    for block in blocks:
        yield block


async def raising(blocks: Iterable[bytes]) -> AsyncGenerator[bytes, None]:
    for block in blocks:
        yield block
    raise Disturbance


async def stalling(blocks: Iterable[bytes]) -> AsyncGenerator[bytes, None]:
    """Yields the blocks, then waits for ever."""
    for block in blocks:
        yield block
    await Deferred()


def some_bytes(count: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(count)


def new_id() -> str:
    return str(uuid4())


@pytest_twisted.ensureDeferred
async def test_what_was_added_can_be_read(bench: Bench) -> None:
    data = some_bytes(3 * MIB + 17)
    stored = await bench.add(new_id(), source([data[:MIB], data[MIB:]]), len(data))
    assert stored.size == len(data)
    assert await bench.read(stored.url) == data
    assert await bench.store.size(stored.url) == len(data)


@pytest_twisted.ensureDeferred
async def test_the_url_is_made_of_the_image_id(bench: Bench) -> None:
    image_id = new_id()
    stored = await bench.add(image_id, source([b"data"]), 4)
    assert image_id in stored.url
    assert stored.url not in repr(stored)


@pytest_twisted.ensureDeferred
async def test_check_passes_and_leaves_nothing(readable: Bench) -> None:
    await readable.store.check()
    await readable.store.check()


@pytest_twisted.ensureDeferred
async def test_the_size_need_not_be_known(bench: Bench) -> None:
    data = some_bytes(MIB + 1)
    stored = await bench.add(new_id(), source([data]), None)
    assert stored.size == len(data)
    assert await bench.read(stored.url) == data


@pytest.mark.parametrize("hint", [0, 3, 5, 10**7])
@pytest_twisted.ensureDeferred
async def test_the_size_is_only_a_hint(bench: Bench, hint: int) -> None:
    stored = await bench.add(new_id(), source([b"four"]), hint)
    assert stored.size == 4
    assert await bench.read(stored.url) == b"four"
    assert await bench.store.size(stored.url) == 4


@pytest.mark.parametrize("blocks", [[], [b""], [b"", b""]])
@pytest.mark.parametrize("size", [0, None])
@pytest_twisted.ensureDeferred
async def test_an_object_may_be_empty(bench: Bench, blocks: list[bytes], size: int | None) -> None:
    stored = await bench.add(new_id(), source(blocks), size)
    assert stored.size == 0
    assert await bench.read(stored.url) == b""
    assert await bench.store.size(stored.url) == 0


@pytest_twisted.ensureDeferred
async def test_a_large_object_in_blocks_of_odd_sizes(bench: Bench) -> None:
    digest = hashlib.sha256()
    total = 64 * MIB + 5
    pool = some_bytes(2 * MIB)
    chance = random.Random(2)

    def blocks() -> Iterable[bytes]:
        left = total
        while left:
            size = min(left, chance.choice([1, 4095, 65537, MIB - 1, MIB, MIB + 1, 2 * MIB]))
            begin = chance.randrange(len(pool) - size + 1)
            block = bytes(size) if chance.random() < 0.3 else pool[begin : begin + size]
            digest.update(block)
            left -= size
            yield block

    stored = await bench.add(new_id(), source(blocks()), total)
    assert stored.size == total
    seen = hashlib.sha256()
    async for block in bench.store.read(stored.url):
        assert len(block) <= MIB
        seen.update(block)
    assert seen.digest() == digest.digest()


@pytest_twisted.ensureDeferred
async def test_many_tiny_blocks(bench: Bench) -> None:
    data = some_bytes(2000)
    stored = await bench.add(new_id(), source(bytes([byte]) for byte in data), len(data))
    assert await bench.read(stored.url) == data


@pytest.mark.parametrize("zeros", [1, 4096, 65536, 65537, 3 * MIB])
@pytest_twisted.ensureDeferred
async def test_zeros_come_back_as_zeros(bench: Bench, zeros: int) -> None:
    blocks = [bytes(zeros), b"a" * 70001, bytes(zeros), b"b", bytes(zeros)]
    stored = await bench.add(new_id(), source(blocks), None)
    assert stored.size == sum(map(len, blocks))
    assert await bench.store.size(stored.url) == stored.size
    assert await bench.read(stored.url) == b"".join(blocks)


@pytest.mark.parametrize(
    ("start", "length"),
    [
        (0, 1),
        (0, 0),
        (5, 0),
        (1, None),
        (255 * 1024, 2 * 1024),
        (256 * 1024, 256 * 1024),
        (MIB - 1, 2),
        (MIB, None),
        (2 * MIB + 2, 1),
        (2 * MIB + 2, 100),
        (2 * MIB + 3, None),
        (2 * MIB + 3, 1),
        (10 * MIB, 5),
        (3, 10**15),
    ],
)
@pytest_twisted.ensureDeferred
async def test_any_range_can_be_read(readable: Bench, start: int, length: int | None) -> None:
    data = some_bytes(2 * MIB + 3)
    url = await readable.place(data)
    expected = data[start:] if length is None else data[start : start + length]
    assert await readable.read(url, start, length) == expected
    assert await readable.store.size(url) == len(data)


@pytest_twisted.ensureDeferred
async def test_a_deleted_object_is_gone(bench: Bench) -> None:
    stored = await bench.store.add(new_id(), source([b"data"]), 4)
    await bench.store.delete(stored.url)
    await assert_missing(bench, stored.url)


@pytest_twisted.ensureDeferred
async def test_a_missing_object_is_told_of(readable: Bench) -> None:
    await assert_missing(readable, readable.subject.url(new_id()))


@pytest.mark.parametrize("url", ["", "x", "memory://", "file://", "s3://other/{}", "file:///{}"])
@pytest_twisted.ensureDeferred
async def test_a_url_of_another_store_leads_nowhere(readable: Bench, url: str) -> None:
    await assert_missing(readable, url.format(new_id()))


async def assert_missing(bench: Bench, url: str) -> None:
    with pytest.raises(DataNotFound) as caught:
        await bench.store.size(url)
    assert not url or url not in caught.value.message
    with pytest.raises(DataNotFound if bench.subject.put is None else StoreReadOnly):
        await bench.store.delete(url)
    for length in (None, 0, 1):
        with pytest.raises(DataNotFound):
            await bench.read(url, 0, length)


@pytest_twisted.ensureDeferred
async def test_an_image_has_one_object_at_most(bench: Bench) -> None:
    image_id = new_id()
    stored = await bench.add(image_id, source([b"first"]), 5)
    with pytest.raises(DataExists) as caught:
        await bench.store.add(image_id, source([b"second"]), 6)
    assert stored.url not in caught.value.message
    assert await bench.read(stored.url) == b"first"


@pytest_twisted.ensureDeferred
async def test_an_id_can_be_used_again_after_a_delete(bench: Bench) -> None:
    image_id = new_id()
    first = await bench.store.add(image_id, source([b"first"]), 5)
    await bench.store.delete(first.url)
    second = await bench.add(image_id, source([b"second"]), 6)
    assert await bench.read(second.url) == b"second"


@pytest_twisted.ensureDeferred
async def test_of_concurrent_adds_of_one_image_one_succeeds(bench: Bench) -> None:
    image_id = new_id()
    contents = [some_bytes(MIB + number, seed=number) for number in range(6)]
    adds = [
        Deferred.fromCoroutine(bench.add(image_id, source([data] * 3), None)) for data in contents
    ]
    results: list[tuple[bool, Any]] = await DeferredList(adds, consumeErrors=True)
    winners = [data for data, (success, _) in zip(contents, results, strict=True) if success]
    assert len(winners) == 1
    assert [failure.type for success, failure in results if not success] == [DataExists] * 5
    assert await bench.read(bench.added[0]) == winners[0] * 3


@pytest_twisted.ensureDeferred
async def test_adds_of_different_images_do_not_mix(bench: Bench) -> None:
    contents = [some_bytes(MIB + number, seed=number) for number in range(8)]
    adds = [
        Deferred.fromCoroutine(bench.add(new_id(), source([data] * 3), None)) for data in contents
    ]
    results = await DeferredList(adds, consumeErrors=True)
    for data, (success, stored) in zip(contents, results, strict=True):
        assert success
        assert await bench.read(stored.url) == data * 3


@pytest_twisted.ensureDeferred
async def test_concurrent_reads_do_not_mix(readable: Bench) -> None:
    contents = [some_bytes(2 * MIB + number, seed=number) for number in range(3)]
    urls = [await readable.place(data) for data in contents]
    reads = [Deferred.fromCoroutine(interleaved(readable, url)) for url in urls * 4]
    results = await DeferredList(reads, consumeErrors=True)
    assert [value for _, value in results] == contents * 4


async def interleaved(bench: Bench, url: str) -> bytes:
    blocks = []
    async for block in bench.store.read(url):
        blocks.append(block)
        await pause(0)
    return b"".join(blocks)


@pytest_twisted.ensureDeferred
async def test_nobody_sees_an_object_before_it_is_whole(bench: Bench) -> None:
    image_id = new_id()
    add = Deferred.fromCoroutine(bench.store.add(image_id, stalling([some_bytes(MIB)] * 3), None))
    for _ in range(10):
        await pause(0.005)
        await assert_missing(bench, bench.subject.url(image_id))
    add.cancel()
    with pytest.raises(CancelledError):
        await add


@pytest.mark.parametrize("before", [0, 1, 5, 20])
@pytest_twisted.ensureDeferred
async def test_a_source_that_raises_leaves_nothing(bench: Bench, before: int) -> None:
    image_id = new_id()
    with pytest.raises(Disturbance):
        await bench.store.add(image_id, raising([some_bytes(MIB)] * before), 20 * MIB)
    assert await bench.subject.leftovers() == []
    stored = await bench.add(image_id, source([b"again"]), 5)
    assert await bench.read(stored.url) == b"again"


@pytest.mark.parametrize("before", [0, 1, 12])
@pytest_twisted.ensureDeferred
async def test_a_cancelled_add_leaves_nothing(bench: Bench, before: int) -> None:
    image_id = new_id()
    add = Deferred.fromCoroutine(bench.store.add(image_id, stalling([some_bytes(MIB)] * before), 9))
    await pause(0.02)
    add.cancel()
    with pytest.raises(CancelledError):
        await add
    assert await bench.subject.leftovers() == []
    stored = await bench.add(image_id, source([b"again"]), 5)
    assert await bench.read(stored.url) == b"again"


@pytest_twisted.ensureDeferred
async def test_an_add_cancelled_at_any_moment_is_all_or_nothing(bench: Bench) -> None:
    """Cancels some turns of the reactor later each time, until five adds were done before.

    A store on the network takes so many turns that these are longer.
    """
    data = some_bytes(MIB)
    outcomes, turns = list[str](), 0
    while outcomes.count("too late") < 5:
        add = Deferred.fromCoroutine(bench.store.add(new_id(), source([data] * 5), None))
        for _ in range(turns):
            await pause(bench.subject.turn)
        outcomes.append(await outcome(bench, add))
        turns += 1 + turns // 200  # where a disk is slow, an add takes thousands of turns
        assert turns < 1_000_000


async def outcome(bench: Bench, add: Deferred[Stored]) -> str:
    """Cancel and see that there is the whole object or nothing at all."""
    add.cancel()
    try:
        stored = await add
    except CancelledError:
        assert await bench.subject.leftovers() == []
        return "cancelled"
    assert await bench.store.size(stored.url) == 5 * MIB
    await bench.store.delete(stored.url)
    return "too late"


@pytest_twisted.ensureDeferred
async def test_a_second_cancel_leaves_nothing_either(bench: Bench) -> None:
    async def cancelled_twice(turns: int) -> None:
        add = Deferred.fromCoroutine(
            bench.store.add(new_id(), stalling([some_bytes(MIB)] * 9), None)
        )
        for _ in range(turns):
            await pause(0)
        add.cancel()
        add.cancel()
        with pytest.raises(CancelledError):
            await add

    for turns in range(8):
        await cancelled_twice(turns)
    for _ in range(6000):  # nobody waits for what the second one has left to be done
        if not await bench.subject.leftovers():
            break
        await pause(0.01)
    assert await bench.subject.leftovers() == []


@pytest_twisted.ensureDeferred
async def test_a_reading_may_end_early(readable: Bench) -> None:
    data = some_bytes(3 * MIB)
    url = await readable.place(data)
    reading = readable.store.read(url)
    first = await anext(reading)
    await reading.aclose()
    assert data.startswith(first)
    async for _ in readable.store.read(url):
        break
    forgotten = readable.store.read(url)
    await anext(forgotten)
    del forgotten


@pytest_twisted.ensureDeferred
async def test_a_reading_may_be_cancelled(readable: Bench) -> None:
    url = await readable.place(some_bytes(3 * MIB))
    for turns in range(4):
        reading = Deferred.fromCoroutine(interleaved(readable, url))
        for _ in range(turns):
            await pause(0)
        reading.cancel()
        with pytest.raises(CancelledError):
            await reading
    assert len(await readable.read(url)) == 3 * MIB


@pytest_twisted.ensureDeferred
async def test_a_read_only_store_says_so(read_only: Bench) -> None:
    url = await read_only.place(b"data")
    with pytest.raises(StoreReadOnly):
        await read_only.store.add(new_id(), source([b"data"]), 4)
    with pytest.raises(StoreReadOnly):
        await read_only.store.delete(url)
    await read_only.store.discard(url.rpartition("/")[2])
    assert await read_only.read(url) == b"data"


@pytest_twisted.ensureDeferred
async def test_an_object_may_be_deleted_while_it_is_read(bench: Bench) -> None:
    """The reading goes on to the end, or says that the object is gone; it never lies."""
    data = some_bytes(3 * MIB)
    stored = await bench.store.add(new_id(), source([data]), None)
    reading = bench.store.read(stored.url)
    blocks = [await anext(reading)]
    await bench.store.delete(stored.url)
    try:
        blocks += [block async for block in reading]
    except DataNotFound:
        assert data.startswith(b"".join(blocks))
    else:
        assert b"".join(blocks) == data


@pytest_twisted.ensureDeferred
async def test_discard_removes_an_object(bench: Bench) -> None:
    image_id = new_id()
    stored = await bench.store.add(image_id, source([b"data"]), 4)
    await bench.store.discard(image_id)
    await assert_missing(bench, stored.url)


@pytest_twisted.ensureDeferred
async def test_discard_of_nothing_is_fine_and_touches_no_other(bench: Bench) -> None:
    image_id = new_id()
    stored = await bench.add(image_id, source([b"data"]), 4)
    await bench.store.discard(new_id())
    await bench.store.discard(image_id[:-1])
    assert await bench.read(stored.url) == b"data"


@pytest_twisted.ensureDeferred
async def test_the_reactor_gets_its_turns_while_bytes_flow(bench: Bench) -> None:
    """The source never waits, nor does the reader; all the same others get their turns."""
    if "memory" in bench.subject.url("x"):
        pytest.skip("memory has nothing to wait for")
    ticks = []
    running = True

    async def tick() -> None:
        while running:
            ticks.append(1)
            await pause(0)

    ticking = Deferred.fromCoroutine(tick())
    stored = await bench.add(new_id(), source([some_bytes(MIB)] * 64), None)
    added = len(ticks)
    reading = bench.store.read(stored.url)
    await anext(reading)
    opened = len(ticks)
    async for _ in reading:
        pass
    read = len(ticks) - opened
    running = False
    await ticking
    assert added >= 3
    assert read >= 3


@pytest_twisted.ensureDeferred
async def test_a_store_of_local_files_opens_them(bench: Bench) -> None:
    require_local_files(bench)
    stored = await bench.add(new_id(), source([b"data"]), 4)
    descriptor = await bench.store.open_file(stored.url)
    try:
        assert os.read(descriptor, 10) == b"data"
        assert not os.get_inheritable(descriptor)
    finally:
        os.close(descriptor)
    with pytest.raises(DataNotFound):
        await bench.store.open_file(bench.subject.url(new_id()))


@pytest_twisted.ensureDeferred
async def test_opening_may_be_cancelled(bench: Bench) -> None:
    require_local_files(bench)
    stored = await bench.add(new_id(), source([b"data"]), 4)
    for turns in range(20):
        opening = Deferred.fromCoroutine(bench.store.open_file(stored.url))
        for _ in range(turns // 5):
            await pause(0)
        opening.cancel()
        try:
            os.close(await opening)
        except CancelledError:
            continue


def require_local_files(bench: Bench) -> None:
    if not isinstance(bench.store, LocalFiles):
        pytest.skip("this store's objects are no local files")
