"""Objects in the memory of the process: for tests, and the driver to read first."""

from collections.abc import AsyncGenerator, AsyncIterator

import attrs

from imgservice.concurrency.threads import Threads
from imgservice.domain.options import option
from imgservice.domain.units import Size
from imgservice.store.interface import DataExists, DataNotFound, Stored, StoreFull
from imgservice.store.registry import Driver, StoreConfig


@attrs.frozen(kw_only=True)
class MemoryConfig(StoreConfig):
    """The options of a store of type `memory`."""

    capacity: Size = option(Size(1024**3), "Maximum size of all image data together.")


class MemoryStore:
    """Loses everything at the end of the process, and shares nothing with other processes."""

    def __init__(self, store_id: str, config: MemoryConfig, threads: Threads) -> None:
        self._name = f"Store {store_id}"
        self._prefix = f"memory://{store_id}/"
        self._free = int(config.capacity)
        self._objects: dict[str, bytes] = {}

    async def add(self, image_id: str, data: AsyncIterator[bytes], size: int | None) -> Stored:
        blocks: list[bytes] = []
        try:
            async for block in data:
                blocks.append(block)
                self._take(len(block))
            return self._keep(self._prefix + image_id, b"".join(blocks))
        except BaseException:
            self._free += sum(map(len, blocks))
            raise

    async def read(
        self, url: str, start: int = 0, length: int | None = None
    ) -> AsyncGenerator[bytes, None]:
        data = memoryview(self._find(url))[start:][:length]
        for position in range(0, len(data), 256 * 1024):
            yield bytes(data[position : position + 256 * 1024])

    async def delete(self, url: str) -> None:
        self._free += len(self._find(url))
        del self._objects[url]

    async def size(self, url: str) -> int:
        return len(self._find(url))

    async def discard(self, image_id: str) -> None:
        self._free += len(self._objects.pop(self._prefix + image_id, b""))

    async def check(self) -> None:
        pass  # memory is always available; whether it is enough shows when data comes

    def _take(self, count: int) -> None:
        self._free -= count
        if self._free < 0:
            raise StoreFull(f"{self._name} has no room for the data")

    def _keep(self, url: str, data: bytes) -> Stored:
        if url in self._objects:
            raise DataExists(f"{self._name} already has an object for this image")
        self._objects[url] = data
        return Stored(url=url, size=len(data))

    def _find(self, url: str) -> bytes:
        if url not in self._objects:
            raise DataNotFound(f"{self._name} has no such object")
        return self._objects[url]


DRIVER = Driver(config=MemoryConfig, create=MemoryStore)
