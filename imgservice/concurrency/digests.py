"""Checksums of a stream, computed in threads: one serial queue for each algorithm."""

import hashlib
from collections.abc import Callable

from imgservice.concurrency.threads import Threads


class Digests:
    """MD5 and one more checksum of the blocks of a stream."""

    def __init__(self, threads: Threads, algorithm: str, window: Callable[[], int]) -> None:
        self.algorithm = algorithm
        names = {"md5", algorithm}
        self._states = {name: hashlib.new(name, usedforsecurity=False) for name in names}
        self._queues = {name: threads.serial_queue(window) for name in names}

    async def update(self, block: bytes) -> None:
        """Queue the block; wait while as many bytes of earlier ones wait as `window` says."""
        for name, queue in self._queues.items():
            await queue.put(self._states[name].update, block)

    async def finish(self) -> tuple[str, str]:
        """Return the MD5 and the other checksum of all that was queued, in hex."""
        for queue in self._queues.values():
            await queue.drain()
        return self._states["md5"].hexdigest(), self._states[self.algorithm].hexdigest()

    async def abandon(self) -> None:
        """Drop the work that waits."""
        for queue in self._queues.values():
            await queue.abandon()
