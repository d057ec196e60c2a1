"""The store of files: what a driver does, with its blocking work in threads."""

import mmap
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from functools import partial
from pathlib import Path
from urllib.parse import quote

from imgservice.concurrency.threads import SerialQueue, Threads
from imgservice.domain.errors import ImageServiceError
from imgservice.store.file.config import PIECE, FileConfig
from imgservice.store.file.objects import Objects
from imgservice.store.file.reading import OpenObject
from imgservice.store.file.writing import PartialFile
from imgservice.store.interface import DataNotFound, Stored, StoreError, StoreUnavailable
from imgservice.store.names import NO_OBJECT, OBJECT_NAME, checked_name
from imgservice.store.registry import Driver

WINDOW = 4 * 1024 * 1024
"""Bytes of one object that may wait for the disk."""
ALL_WINDOWS = 64 * 1024 * 1024
"""The same for all objects together."""
SMALLEST_WINDOW = 64 * 1024
"""The least that each object has."""
PIECES_AT_ONCE = 32
"""How many pieces are read without a thread before the reactor gets its turn."""
SCHEMES = ("file://", "filesystem://")


class FileStore:
    """A store that opens and removes only files directly in its own directories."""

    def __init__(self, store_id: str, config: FileConfig, threads: Threads) -> None:
        self._id = store_id
        self._name = f"Store {store_id}"
        self._config = config
        self._directories = tuple(config.priorities)
        self.place = ", ".join(map(str, self._directories))
        self.tell: Callable[[str], object] = lambda why: None
        self._threads = threads
        self._objects = Objects(self._name, config, lambda why: self.tell(why))
        self._adding = 0
        # Page-aligned: the kernel copies several times faster to such addresses.
        self._buffer = memoryview(mmap.mmap(-1, PIECE))

    # -- writing ----------------------------------------------------------------------------------

    async def add(self, image_id: str, data: AsyncIterator[bytes], size: int | None) -> Stored:
        written = PartialFile(checked_name(image_id), self._config)
        self._adding += 1
        try:
            return await self._add(written, data, size)
        finally:
            self._adding -= 1

    async def _add(
        self, written: PartialFile, data: AsyncIterator[bytes], size: int | None
    ) -> Stored:
        queue, objects = self._threads.serial_queue(self._window), self._objects
        write = partial(objects.write, written)
        try:
            await queue.put(lambda _: objects.begin(written, size), b"")
            async for block in data:
                await queue.put(write, block)
            path = await queue.call(lambda: objects.publish(written))
        except ImageServiceError:
            await self._end_refused(queue, written)
            raise
        except BaseException:
            await queue.abandon(written.remove)
            raise
        return Stored(url=f"file://{path}", size=written.size)

    async def _end_refused(self, queue: SerialQueue, written: PartialFile) -> None:
        """Remove data that was refused; `StoreUnavailable` when it could not be stored either.

        A client that repeats its request after a 503, but cannot send its data again, must be told
        about the store, and not that it sent too little.
        """
        try:
            await queue.drain()
        except StoreUnavailable:
            raise
        except StoreError:
            pass
        finally:
            await queue.abandon(written.remove)

    def _window(self) -> int:
        return max(SMALLEST_WINDOW, min(WINDOW, ALL_WINDOWS // max(1, self._adding)))

    # -- reading ----------------------------------------------------------------------------------

    async def read(
        self, url: str, start: int = 0, length: int | None = None
    ) -> AsyncGenerator[bytes, None]:
        opened, objects = OpenObject(self._find(url)), self._objects
        queue = self._threads.serial_queue(PIECE)
        left = length
        at_once = PIECES_AT_ONCE
        try:
            await queue.call(lambda: objects.open(opened))
            while wanted := PIECE if left is None else min(PIECE, left):
                piece = opened.cached(start, self._buffer[:wanted]) if at_once else None
                at_once -= 1
                if piece is None:
                    piece = await queue.call(partial(objects.read, opened, start, wanted))
                    at_once = PIECES_AT_ONCE
                if not piece:
                    break
                start += len(piece)
                left = None if left is None else left - len(piece)
                yield piece
        finally:
            queue.abandon_soon(opened.close)

    async def open_file(self, url: str) -> int:
        opened = OpenObject(self._find(url))
        queue = self._threads.serial_queue(PIECE)
        try:
            await queue.call(lambda: self._objects.open(opened))
        except BaseException:
            await queue.abandon(opened.close)
            raise
        return opened.release()

    async def size(self, url: str) -> int:
        return await self._threads.run(self._objects.size, self._find(url))

    # -- removing ---------------------------------------------------------------------------------

    async def delete(self, url: str) -> None:
        await self._threads.run(self._objects.delete, self._find(url))

    async def discard(self, image_id: str) -> None:
        await self._threads.run(self._objects.discard, checked_name(image_id))

    # -- checking ---------------------------------------------------------------------------------

    async def check(self) -> None:
        """Create missing directories, and try to write a small file to each."""
        await self._threads.run(self._objects.check)

    async def probe(self, thoroughly: bool) -> None:
        await self._threads.run(self._objects.probe, thoroughly)

    # -- URLs -------------------------------------------------------------------------------------

    def proxy_path(self, url: str) -> str | None:
        """Return None when there are several directories: the proxy cannot know which one."""
        if len(self._directories) > 1:
            return None
        return f"{quote(self._id, safe='')}/{self._find(url).name}"

    def holds(self, url: str) -> bool:
        return self._path(url) is not None

    def _path(self, url: str) -> Path | None:
        scheme = next(filter(url.startswith, SCHEMES), None)
        if scheme is None:
            return None
        directory, _, name = url.removeprefix(scheme).rpartition("/")
        # Compared as text, so that nothing in the URL can lead anywhere else.
        own = any(directory == str(path) for path in self._directories)
        return Path(directory, name) if own and OBJECT_NAME.fullmatch(name) else None

    def _find(self, url: str) -> Path:
        path = self._path(url)
        if path is None:
            raise DataNotFound(f"{self._name} {NO_OBJECT}")
        return path


DRIVER = Driver(config=FileConfig, create=FileStore)
