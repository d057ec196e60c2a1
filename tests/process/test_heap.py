"""Freed memory that goes back to the operating system."""

from pathlib import Path

import pytest_twisted
from twisted.internet.task import Clock

from imgservice.process.heap import INTERVAL, HeapTrim

MiB = 1 << 20
BLOCK = 256 << 10
TAKEN = 64 * MiB


def own_memory() -> int:
    """Return the bytes that are resident and not those of a file."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (size,) = (line.split()[1] for line in lines if line.startswith("RssAnon:"))
    return int(size) << 10


def take_and_free() -> list[bytes]:
    """Fill memory and free it; return small objects that lie between what was freed."""
    pairs = [(b"x" * BLOCK, b"x" * 1024) for _ in range(TAKEN // BLOCK)]
    return [small for _, small in pairs]


@pytest_twisted.ensureDeferred
async def test_freed_memory_goes_back_at_intervals() -> None:
    clock = Clock()
    trim = HeapTrim(clock)
    trim.start()
    clock.advance(INTERVAL)  # what other tests have freed
    rested = own_memory()
    between = take_and_free()
    assert own_memory() - rested > TAKEN // 2
    clock.advance(INTERVAL)
    assert own_memory() - rested < TAKEN // 4
    await trim.stop()
    assert between
    assert not clock.getDelayedCalls()
