"""A Swift that fails in the middle: nothing is left once it works again, and no byte is wrong."""

import random
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.threads import deferToThread

from imgservice.concurrency.threads import Threads
from imgservice.domain.units import Duration, Size
from imgservice.store.interface import CleanupPending, StoreUnavailable
from tests import swift as swifts
from tests.store.swift_stores import IMAGE, MIB, SMALL, Place, interrupted, reactor, read, source
from tests.swift import Swift

DATA = random.Random(2).randbytes(6 * MIB)
WHOLE = {"segment_from": Size(100 * MIB), "retry_memory": Size(MIB)}
PARTS = {**SMALL, "segment_size": Size(2 * MIB), "retry_memory": Size(MIB)}
HASTY = {"timeout": Duration(1), "connect_timeout": Duration(1)}


@pytest.fixture(scope="module")
def fragile(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The Swift that the tests of this file stop and start."""
    with swifts.started(tmp_path_factory.mktemp("fragile")) as started:
        yield started


@pytest_twisted.async_yield_fixture
async def place(fragile: Swift) -> AsyncIterator[Place]:
    threads = Threads(reactor, 2, "store")
    made = Place(fragile, fragile.container(), threads)
    yield made
    await made.close()
    threads.stop()


def restart(swift: Swift) -> None:
    swift.kill()
    swift.start()


async def failed_add(store: Any, happens: Callable[[], object]) -> Exception:
    """Return why data cannot be stored, because of what happens in the middle of it.

    On a busy machine a store with short timeouts may fail before: then it is tried again.
    """
    happened: list[object] = []
    for _ in range(20):
        data = interrupted(DATA, 3 * MIB, lambda: happened.append(happens()))
        with pytest.raises(StoreUnavailable) as caught:
            await store.add(IMAGE, data, len(DATA))
        if happened:
            return caught.value
    raise AssertionError("the machine is too busy")


@pytest.mark.parametrize("options", [WHOLE, PARTS], ids=["whole", "segments"])
@pytest_twisted.ensureDeferred
async def test_killed_in_mid_upload(place: Place, options: Any) -> None:
    error = await failed_add(place.store(**options, **HASTY), place.swift.kill)
    assert isinstance(error, CleanupPending)
    await deferToThread(place.swift.start)
    store = place.store(**options)
    await store.discard(IMAGE)
    assert place.objects() == []
    assert place.told
    stored = await store.add(IMAGE, source([DATA]), len(DATA))
    assert await read(store, stored.url) == DATA


@pytest.mark.parametrize("options", [WHOLE, PARTS], ids=["whole", "segments"])
@pytest_twisted.ensureDeferred
async def test_paused_in_mid_upload(place: Place, options: Any) -> None:
    """It gives no answer, but what it was sent is in its queues, and it does it afterwards."""
    hasty = place.store(**options, **HASTY)
    try:
        error = await failed_add(hasty, lambda: place.swift.signal(signal.SIGSTOP))
    finally:
        place.swift.signal(signal.SIGCONT)
    assert isinstance(error, CleanupPending)
    store = place.store(**options)
    await store.discard(IMAGE)
    assert place.objects() == []
    assert await read(store, (await store.add(IMAGE, source([DATA]), None)).url) == DATA


@pytest_twisted.ensureDeferred
async def test_a_segment_whose_data_is_at_hand_is_sent_again(place: Place) -> None:
    store = place.store(**SMALL)
    data = interrupted(DATA, 3 * MIB + MIB // 2, lambda: restart(place.swift))
    stored = await store.add(IMAGE, data, None)
    assert await read(store, stored.url) == DATA
    assert len(place.objects()) == 7


@pytest_twisted.ensureDeferred
async def test_tokens_that_are_revoked_in_mid_upload_are_renewed(place: Place) -> None:
    """Swift has not asked for data of the segment when it rejects the token: none is lost."""

    async def revoking() -> AsyncIterator[bytes]:
        for start in range(0, len(DATA), MIB):
            await deferToThread(place.swift.signal, signal.SIGUSR1)
            yield DATA[start : start + MIB]

    store = place.store(**SMALL, retry_memory=Size(0))
    await store.check()
    before = len(place.swift.requests())
    stored = await store.add(IMAGE, revoking(), len(DATA))
    assert await read(store, stored.url) == DATA
    refused = [line for line in place.swift.requests()[before:] if line.startswith("401 PUT")]
    assert len(refused) >= 4


@pytest_twisted.ensureDeferred
async def test_killed_and_started_again_in_mid_download(place: Place) -> None:
    store = place.store(**PARTS)
    stored = await store.add(IMAGE, source([DATA]), None)
    received = await interrupted_reading(store, stored.url, lambda: restart(place.swift))
    assert received == DATA[1:]


@pytest_twisted.ensureDeferred
async def test_killed_in_mid_download(place: Place) -> None:
    """A download never ends early as if it were complete."""
    store = place.store(**WHOLE)
    stored = await store.add(IMAGE, source([DATA]), None)
    hasty = place.store(**HASTY, read_retries=2)
    with pytest.raises(StoreUnavailable):
        await interrupted_reading(hasty, stored.url, place.swift.kill)
    with pytest.raises(StoreUnavailable):
        await read(hasty, stored.url)
    await deferToThread(place.swift.start)
    assert await read(store, stored.url) == DATA


@pytest_twisted.ensureDeferred
async def test_paused_in_mid_download(place: Place) -> None:
    store = place.store(**PARTS)
    stored = await store.add(IMAGE, source([DATA]), None)
    hasty = place.store(**HASTY, read_retries=1)
    try:
        with pytest.raises(StoreUnavailable):
            await interrupted_reading(hasty, stored.url, lambda: place.swift.signal(signal.SIGSTOP))
    finally:
        place.swift.signal(signal.SIGCONT)
    assert await read(store, stored.url) == DATA


async def interrupted_reading(store: Any, url: str, happens: Callable[[], object]) -> bytes:
    """Read all but the first byte; let something happen when the first piece is there."""
    blocks = store.read(url, 1)
    received = await anext(blocks)
    await deferToThread(happens)
    async for block in blocks:
        received += block
    return bytes(received)


@pytest_twisted.ensureDeferred
async def test_an_object_that_was_replaced_is_not_read_on(place: Place) -> None:
    store = place.store(**WHOLE)
    stored = await store.add(IMAGE, source([DATA]), len(DATA))

    def replace() -> None:
        restart(place.swift)
        place.put(IMAGE, bytes(len(DATA)))

    with pytest.raises(Exception, match="no such object"):
        await interrupted_reading(store, stored.url, replace)


@pytest_twisted.ensureDeferred
async def test_unreachable_servers_are_told_of(place: Place, tmp_path: Path) -> None:
    store = place.store()
    await store.check()
    await deferToThread(place.swift.kill)
    try:
        with pytest.raises(StoreUnavailable) as caught:
            await place.store(**HASTY).probe(True)
    finally:
        await deferToThread(place.swift.start)
    assert str(place.swift.port) not in caught.value.message
    assert place.told
    assert all("cannot be reached" in line or "breaks" in line for line in place.told)
    await store.probe(True)
