"""Copies of an image's data in several stores: any of them continues what another began."""

import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import ClassVar, Literal, Self, TypeVar

import attrs

from imgservice.domain.errors import NotFound, Unavailable
from imgservice.service.ports import DataStore
from imgservice.store.interface import LocalFiles

T = TypeVar("T")
Note = Callable[[str], object]
"""Tells the operator."""


@attrs.frozen
class Copy:
    """One of the places from which the data can be read."""

    store_id: str
    store: DataStore
    url: str = attrs.field(repr=False)


@attrs.frozen
class _OpenCopy:
    copy: Copy
    _first: bytes
    _rest: AsyncGenerator[bytes, None]

    @classmethod
    async def of(cls, copy: Copy, start: int, length: int) -> Self:
        """Open the copy by reading its first block: only that shows whether it can be read."""
        blocks = copy.store.read(copy.url, start, length)
        return cls(copy, await anext(blocks, b""), blocks)

    @property
    def is_empty(self) -> bool:
        return not self._first

    async def blocks(self) -> AsyncGenerator[bytes, None]:
        if self._first:
            yield self._first
        async for block in self._rest:
            yield block

    async def aclose(self) -> None:
        await self._rest.aclose()


@attrs.define
class OpenBlocks:
    """Data that is read block by block."""

    is_file: ClassVar[Literal[False]] = False
    length: int
    """How many bytes there should be; the stores may turn out to have fewer."""
    _start: int
    _copies: "Copies"
    _now: _OpenCopy

    async def blocks(self) -> AsyncGenerator[bytes, None]:
        """Yield the data, from more than one copy when the first breaks. It can be read once."""
        done = 0
        while True:
            reason: NotFound | Unavailable | None = None
            try:
                async for block in self._now.blocks():
                    done += len(block)
                    yield block
            except (NotFound, Unavailable) as error:
                reason = error
            if done >= self.length:
                return
            rest = await self._copies.rest(self._now.copy, self._start, done, self.length, reason)
            if rest is None:
                break
            self._now = rest
        if reason is not None:
            raise reason

    async def aclose(self) -> None:
        await self._now.aclose()


@attrs.frozen
class OpenFile:
    """Data in a local file, for callers that let the kernel read it."""

    is_file: ClassVar[Literal[True]] = True
    descriptor: int
    start: int
    length: int
    """How many bytes there should be; the file may be shorter."""
    _copies: "Copies"
    _copy: Copy

    async def rest(self, done: int, reason: Exception) -> OpenBlocks | None:
        """Open another copy where this one broke after `done` bytes; None when there is none."""
        start, length = self.start + done, self.length - done
        opened = await self._copies.rest(self._copy, self.start, done, self.length, reason)
        return None if opened is None else OpenBlocks(length, start, self._copies, opened)

    async def aclose(self) -> None:
        os.close(self.descriptor)


@attrs.frozen
class Copies:
    """The copies of an image's data, in the order in which they are tried."""

    _image_id: str
    all: Sequence[Copy]
    _note: Note

    async def open(self, start: int, length: int) -> OpenBlocks | None:
        """Open the first copy that opens.

        None when no store has the data; `Unavailable` when one may have it, but fails.
        """
        return await _first_of(self.all, lambda copy: self._open(copy, start, length))

    async def open_file(self, start: int, length: int) -> OpenFile | OpenBlocks | None:
        """Do as `open` does, but open a copy that is a local file as such."""

        async def open_copy(copy: Copy) -> OpenFile | OpenBlocks:
            if isinstance(copy.store, LocalFiles):
                descriptor = await copy.store.open_file(copy.url)
                return OpenFile(descriptor, start, length, self, copy)
            return await self._open(copy, start, length)

        return await _first_of(self.all, open_copy)

    async def _open(self, copy: Copy, start: int, length: int) -> OpenBlocks:
        return OpenBlocks(length, start, self, await _OpenCopy.of(copy, start, length))

    async def rest(
        self, broken: Copy, start: int, done: int, length: int, reason: Exception | None
    ) -> _OpenCopy | None:
        """Open one of the copies behind the broken one where that ended; None when none opens."""
        behind = self.all[[one is broken for one in self.all].index(True) + 1 :]

        async def open_rest(copy: Copy) -> _OpenCopy:
            opened = await _OpenCopy.of(copy, start + done, length - done)
            if opened.is_empty:
                raise NotFound("The copy is too short, too.")
            return opened

        try:
            found = await _first_of(behind, open_rest)
        except Unavailable:
            return None  # the reason of the first failure says more
        if found is not None:
            self._note(
                f"Image {self._image_id}: its copy in store {broken.store_id} broke at byte"
                f" {start + done} ({reason or 'there is no more data'}), and was continued from"
                f" store {found.copy.store_id}"
            )
        return found


async def _first_of(copies: Sequence[Copy], open_copy: Callable[[Copy], Awaitable[T]]) -> T | None:
    trouble: Unavailable | None = None
    for copy in copies:
        try:
            return await open_copy(copy)
        except NotFound:
            continue
        except Unavailable as error:
            trouble = error
    if trouble is not None:
        raise trouble
    return None
