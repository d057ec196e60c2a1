"""Blocking work: what runs when, who waits, and that nobody waits for ever."""

import random
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from threading import Event, Lock, Timer, current_thread, main_thread
from time import sleep
from typing import Any, cast
from weakref import ReferenceType, ref

import pytest
import pytest_twisted
from twisted.internet import reactor as installed_reactor
from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from imgservice.concurrency.threads import SerialQueue, Threads

reactor = cast(Any, installed_reactor)


@pytest.fixture
def threads() -> Iterator[Threads]:
    threads = Threads(reactor, 2, "test")
    yield threads
    threads.stop()


@pytest.fixture
def gate() -> Iterator[Event]:
    """Work waits for it; it opens at the end of the test at the latest."""
    gate = Event()
    yield gate
    gate.set()


async def pause(seconds: float) -> None:
    await deferLater(cast(IReactorTime, reactor), seconds)


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(10_000):
        if condition():
            return
        await pause(0.002)
    pytest.fail("it did not come to pass")


def started(coroutine: Any) -> Deferred[Any]:
    return Deferred.fromCoroutine(coroutine)


class Fire(OSError):
    """An error that can have weak references."""


def fails(_: bytes) -> None:
    raise OSError("the disk is on fire")


# Single calls


@pytest_twisted.ensureDeferred
async def test_run_returns_what_a_thread_returned(threads: Threads) -> None:
    def add(first: int, second: int) -> tuple[int, bool]:
        return first + second, current_thread() is main_thread()

    assert await threads.run(add, 1, second=2) == (3, False)


@pytest_twisted.ensureDeferred
async def test_run_raises_what_a_thread_raised(threads: Threads) -> None:
    with pytest.raises(OSError, match="on fire"):
        await threads.run(fails, b"")


@pytest_twisted.ensureDeferred
async def test_a_cancelled_run_goes_on_unseen(threads: Threads, gate: Event) -> None:
    done = Event()

    def work() -> None:
        gate.wait()
        done.set()
        raise OSError("nobody hears this")

    running = threads.run(work)
    running.cancel()
    with pytest.raises(CancelledError):
        await running
    gate.set()
    await until(done.is_set)


# Order


@pytest_twisted.ensureDeferred
async def test_a_lane_keeps_the_order_and_never_runs_twice_at_once(threads: Threads) -> None:
    queue = threads.serial_queue(100)
    seen: list[bytes] = []
    busy = Lock()

    def work(block: bytes) -> None:
        assert busy.acquire(blocking=False)
        seen.append(block)
        if len(seen) % 50 == 0:
            sleep(0.001)
        busy.release()

    blocks = [str(number).encode() for number in range(1000)]
    for block in blocks:
        await queue.put(work, block)
    await queue.drain()
    assert seen == blocks


@pytest_twisted.ensureDeferred
async def test_call_comes_after_all_that_was_put(threads: Threads) -> None:
    queue = threads.serial_queue(100)
    seen: list[bytes] = []
    for number in range(20):
        await queue.put(seen.append, bytes([number]))
    assert await queue.call(lambda: len(seen)) == 20
    assert await queue.call(lambda: "again") == "again"


@pytest_twisted.ensureDeferred
async def test_an_idle_lane_has_nothing_to_wait_for(threads: Threads) -> None:
    queue = threads.serial_queue(100)
    await queue.drain()
    await queue.abandon()


# The window


@pytest_twisted.ensureDeferred
async def test_put_waits_at_the_window_and_resumes_at_half(threads: Threads) -> None:
    queue = threads.serial_queue(100)
    steps = [Event() for _ in range(10)]
    done: list[int] = []

    def work(block: bytes) -> None:
        steps[len(done)].wait()
        done.append(len(block))

    for _ in range(9):
        assert started(queue.put(work, b"x" * 10)).called
    tenth = started(queue.put(work, b"x" * 10))
    for number in range(5):
        await pause(0.01)
        assert not tenth.called, f"resumed when {100 - 10 * len(done)} bytes still waited"
        steps[number].set()
    await tenth
    assert len(done) == 5
    for step in steps:
        step.set()
    await queue.drain()
    assert sum(done) == 100


@pytest_twisted.ensureDeferred
async def test_a_block_larger_than_the_window_passes_alone(threads: Threads) -> None:
    queue = threads.serial_queue(10)
    seen: list[bytes] = []
    for _ in range(3):
        await queue.put(seen.append, b"x" * 1000)
        assert seen
    await queue.drain()
    assert len(seen) == 3


@pytest_twisted.ensureDeferred
async def test_a_window_of_nothing_still_moves(threads: Threads) -> None:
    queue = threads.serial_queue(0)
    seen: list[bytes] = []
    for _ in range(50):
        await queue.put(seen.append, b"")
    await queue.drain()
    assert len(seen) == 50


# Errors


@pytest_twisted.ensureDeferred
async def test_after_an_error_nothing_more_is_done(threads: Threads, gate: Event) -> None:
    queue = threads.serial_queue(1000)
    seen: list[bytes] = []
    await queue.put(lambda _: gate.wait(), b"")
    await queue.put(fails, b"x")
    await queue.put(seen.append, b"y")
    gate.set()
    with pytest.raises(OSError, match="on fire"):
        await queue.drain()
    with pytest.raises(OSError, match="on fire"):
        await queue.put(seen.append, b"z")
    with pytest.raises(OSError, match="on fire"):
        await queue.call(lambda: seen.append(b"!"))
    assert seen == []


@pytest_twisted.ensureDeferred
async def test_a_put_that_waits_hears_of_the_error(threads: Threads, gate: Event) -> None:
    queue = threads.serial_queue(10)

    def fails_later(block: bytes) -> None:
        gate.wait()
        fails(block)

    await queue.put(fails_later, b"x")
    waiting = started(queue.put(fails, b"x" * 20))
    assert not waiting.called
    gate.set()
    with pytest.raises(OSError, match="on fire"):
        await waiting


@pytest_twisted.ensureDeferred
async def test_call_raises_what_its_work_raises(threads: Threads) -> None:
    queue = threads.serial_queue(10)
    with pytest.raises(ZeroDivisionError):
        await queue.call(lambda: 1 // 0)


# Giving up


@pytest_twisted.ensureDeferred
async def test_abandon_drops_what_waits_and_waits_for_what_runs(
    threads: Threads, gate: Event
) -> None:
    queue = threads.serial_queue(1000)
    seen: list[str] = []
    begun = Event()

    def slow(_: bytes) -> None:
        begun.set()
        gate.wait()
        seen.append("slow")

    await queue.put(slow, b"x")
    await queue.put(lambda _: seen.append("dropped"), b"x")
    await until(begun.is_set)
    abandoned = started(queue.abandon(lambda: seen.append("last")))
    await pause(0.02)
    assert not abandoned.called
    gate.set()
    await abandoned
    assert seen == ["slow", "last"]


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("is_known", [True, False], ids=["known", "not yet known"])
async def test_an_abandoned_queue_keeps_no_error(
    threads: Threads, gate: Event, is_known: bool
) -> None:
    """Its traceback has the block that was worked on."""
    errors: list[ReferenceType[Fire]] = []
    began = Event()

    def fails_later(_: bytes) -> None:
        began.set()
        gate.wait()
        error = Fire()
        errors.append(ref(error))
        try:
            raise error
        finally:
            del error

    queue = threads.serial_queue(100)
    await queue.put(fails_later, b"x")
    await until(began.is_set)
    if is_known:
        gate.set()
        with suppress(OSError):
            await queue.drain()
    abandoned = started(queue.abandon())
    gate.set()
    await abandoned
    await until(lambda: errors[0]() is None)


@pytest_twisted.ensureDeferred
async def test_last_is_done_even_when_what_runs_fails(threads: Threads, gate: Event) -> None:
    queue = threads.serial_queue(1000)
    begun = Event()
    seen: list[str] = []

    def fails_later(block: bytes) -> None:
        begun.set()
        gate.wait()
        fails(block)

    await queue.put(fails_later, b"x")
    await until(begun.is_set)
    abandoned = started(queue.abandon(lambda: seen.append("last")))
    gate.set()
    await abandoned
    assert seen == ["last"]


@pytest_twisted.ensureDeferred
async def test_last_is_done_after_an_earlier_error(threads: Threads) -> None:
    queue = threads.serial_queue(1000)
    seen: list[str] = []
    with pytest.raises(OSError, match="on fire"):
        await queue.call(lambda: fails(b""))
    await queue.abandon(lambda: seen.append("last"))
    assert seen == ["last"]


@pytest_twisted.ensureDeferred
async def test_last_is_done_even_when_nobody_waits(threads: Threads, gate: Event) -> None:
    queue = threads.serial_queue(1000)
    seen: list[str] = []
    await queue.put(lambda _: gate.wait(), b"x")
    abandoned = started(queue.abandon(lambda: seen.append("last")))
    abandoned.cancel()
    with pytest.raises(CancelledError):
        await abandoned
    assert seen == []
    gate.set()
    await until(lambda: seen == ["last"])


@pytest_twisted.ensureDeferred
async def test_abandon_soon_needs_no_waiting(threads: Threads, gate: Event) -> None:
    queue = threads.serial_queue(1000)
    seen: list[str] = []
    begun = Event()

    def slow(_: bytes) -> None:
        begun.set()
        gate.wait()
        seen.append("slow")

    await queue.put(slow, b"x")
    await queue.put(lambda _: seen.append("dropped"), b"x")
    await until(begun.is_set)
    queue.abandon_soon(lambda: seen.append("last"))
    await pause(0.01)
    gate.set()
    await until(lambda: seen == ["slow", "last"])


@pytest_twisted.ensureDeferred
async def test_a_cancelled_put_lets_the_lane_be_abandoned(threads: Threads, gate: Event) -> None:
    queue = threads.serial_queue(10)
    waiting = started(queue.put(lambda _: gate.wait(), b"x" * 10))
    waiting.cancel()
    with pytest.raises(CancelledError):
        await waiting
    abandoned = started(queue.abandon())
    assert not abandoned.called
    gate.set()
    await abandoned


@pytest_twisted.ensureDeferred
async def test_stopping_lets_a_begun_lane_come_to_its_end(gate: Event) -> None:
    threads = Threads(reactor, 1, "test")
    queue = threads.serial_queue(1000)
    seen: list[bytes] = []
    await queue.put(lambda _: gate.wait(), b"")
    for number in range(5):
        await queue.put(seen.append, bytes([number]))
    Timer(0.05, gate.set).start()
    threads.stop()
    assert len(seen) == 5
    await queue.drain()


@pytest_twisted.ensureDeferred
async def test_a_stopped_pool_takes_nothing_and_nobody_hangs() -> None:
    threads = Threads(reactor, 1, "test")
    queue = threads.serial_queue(1000)
    threads.stop()
    with pytest.raises(RuntimeError):
        await queue.put(fails, b"x")
    await queue.drain()
    seen: list[str] = []
    await queue.abandon(lambda: seen.append("last"))
    queue.abandon_soon(lambda: seen.append("soon"))
    await until(lambda: seen == ["last", "soon"])


# Many queues


@pytest_twisted.ensureDeferred
async def test_more_lanes_than_threads_all_come_to_their_end(threads: Threads) -> None:
    totals = [0] * 40

    async def stream(number: int) -> None:
        queue = threads.serial_queue(64)

        def work(block: bytes) -> None:
            totals[number] += len(block)

        for _ in range(200):
            await queue.put(work, b"x" * 16)
        await queue.drain()

    results = await DeferredList([started(stream(number)) for number in range(40)])
    assert all(success for success, _ in results)
    assert totals == [3200] * 40


@pytest_twisted.ensureDeferred
async def test_a_long_lane_does_not_keep_others_waiting(gate: Event) -> None:
    """With a single thread, a second queue's only block is done between the first one's."""
    threads = Threads(reactor, 1, "test")
    long, short = threads.serial_queue(1000), threads.serial_queue(1000)
    seen: list[bytes] = []
    await long.put(lambda _: gate.wait(), b"")
    for _ in range(5):
        await long.put(seen.append, b"long")
    await short.put(seen.append, b"short")
    gate.set()
    await long.drain()
    await short.drain()
    threads.stop()
    assert seen.index(b"short") == 0


@pytest.mark.parametrize("seed", range(4))
@pytest_twisted.ensureDeferred
async def test_no_wake_up_is_lost(seed: int) -> None:
    """Puts and steps race for the window's edges, over and over; none may hang."""
    threads = Threads(reactor, 3, "test")
    chance = random.Random(seed)

    async def stream() -> int:
        queue = threads.serial_queue(chance.choice([1, 7, 64]))
        seen: list[int] = []
        async for block in random_blocks(chance):
            await queue.put(lambda block: seen.append(len(block)), block)
            if chance.random() < 0.02:
                await queue.drain()
        await finish(queue, chance)
        return len(seen)

    running = DeferredList([started(stream()) for _ in range(12)], fireOnOneErrback=True)
    running.addTimeout(20, reactor)
    await running
    threads.stop()


async def random_blocks(chance: random.Random) -> AsyncIterator[bytes]:
    for _ in range(1500):
        yield bytes(chance.randrange(20))


async def finish(queue: SerialQueue, chance: random.Random) -> None:
    if chance.random() < 0.5:
        await queue.drain()
    else:
        await queue.abandon()
