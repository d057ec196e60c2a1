"""One object on its way to a bucket: by one request, or in parts."""

from functools import partial

import attrs

from imgservice.concurrency.memory import SharedMemory
from imgservice.concurrency.reactor import Clock
from imgservice.store.interface import StoreFull
from imgservice.store.s3.documents import SentPart
from imgservice.store.s3.flights import Flights
from imgservice.store.s3.objects import Objects, Written
from imgservice.store.s3.payloads import Payload, Streamed
from imgservice.store.s3.source import Source

MOST_PARTS = 10_000
"""Of one object."""
LARGEST_OBJECT = 5 << 40
DIRECT_PARTS = 4_800
"""How many parts of an object of unknown length are sent as they are."""
COMPOSED = 1 << 30
"""Least size of all further ones: they are put together by the server."""
MEMORY_SHARE = 4
"""One upload has at most this fraction of the memory for parts, but at least one part."""


@attrs.frozen
class Plan:
    """How objects are sent."""

    multipart_from: int
    part_size: int
    connections: int
    has_checksums: bool
    landing: float
    """Seconds for which answers to requests of a failed upload are waited for."""
    direct_parts: int = DIRECT_PARTS
    composed: int = COMPOSED

    def part(self, size: int | None) -> int:
        """Return the size of the parts, so that there are not too many."""
        return max(self.part_size, -(-(size or 0) // MOST_PARTS))


class Upload:
    """The upload of one object.

    Parts are collected in memory and sent beside each other, so that each can be sent again. If
    there is no memory for that, they are sent while they come, which needs the size beforehand.
    """

    def __init__(
        self,
        key: str,
        source: Source,
        size: int | None,
        objects: Objects,
        plan: Plan,
        memory: SharedMemory,
        clock: Clock,
    ) -> None:
        self._written = Written(key)
        self._source = source
        self._size = size
        self._objects = objects
        self._plan = plan
        self._memory = memory
        self._flights = Flights(clock)
        self._part = plan.part(size)
        self._buffers = 0
        self._taken = 0
        self._begun: list[Written] = []
        self._ids: dict[Written, str] = {}
        self._may_be_written: list[Written] = []

    async def run(self) -> int:
        """Send everything, and return how many bytes it was."""
        size, plan = self._size, self._plan
        if size is not None and size > LARGEST_OBJECT:
            raise StoreFull("The data is too large for one object")
        await self._objects.refuse_second(self._written.key)
        if size is None or size <= plan.part_size:
            await self._take_one_buffer()
            await self._send_collected()
        elif size < plan.multipart_from:
            await self._send_streamed(size)
        elif self._take_buffers(-(-size // self._part)):
            await self._send_collected()
        else:
            await self._send_streamed_parts(size)
        return self._source.taken

    async def undo(self) -> None:
        """Leave nothing; whatever the server had done may or may not have been answered."""
        try:
            await self._flights.land(self._plan.landing)
            for written in self._may_be_written:
                if await self._objects.is_ours(written):
                    await self._objects.remove(written.key)
            for written in self._begun:
                await self._abort(written)
        finally:
            self.close()

    async def _abort(self, written: Written) -> None:
        upload_id = self._ids.get(written)
        if upload_id is None:
            await self._objects.abort_all(written.key)
        else:
            await self._objects.abort(written.key, upload_id)

    def close(self) -> None:
        """Give the memory back."""
        taken, self._taken = self._taken, 0
        if taken:
            self._memory.give_back(taken)

    # -- memory -----------------------------------------------------------------------------------

    async def _take_one_buffer(self) -> None:
        """Wait for the memory of one part, then take more if there is some."""
        needed = self._part if self._size is None else max(1, self._size)
        await self._memory.need(needed)
        self._taken, self._buffers = needed, 1
        if self._size is None:
            self._take_buffers(self._plan.connections)

    def _take_buffers(self, most: int) -> int:
        share = self._memory.total // MEMORY_SHARE // self._part
        wanted = min(most, share, self._plan.connections + 1) - self._buffers
        count = self._memory.take(self._part, wanted)
        self._taken += count * self._part
        self._buffers += count
        return count

    # -- data that is collected -------------------------------------------------------------------

    async def _send_collected(self) -> None:
        blocks = await self._source.collect(self._part)
        if self._source.is_ended and (self._plan.multipart_from or not blocks):
            await self._put(Payload(blocks))
            return
        upload_id = await self._begin(self._written)
        most = self._plan.direct_parts if self._size is None else MOST_PARTS
        parts = await self._send_parts(self._written.key, upload_id, blocks, most)
        while not self._source.is_ended:
            parts.append(await self._send_composed(upload_id, len(parts) + 1))
        await self._complete(self._written, upload_id, parts)

    async def _send_parts(
        self, key: str, upload_id: str, blocks: list[bytes], most: int
    ) -> list[SentPart]:
        """Send these blocks as the first part, and the data as further ones, at most so many."""
        parts: list[SentPart] = []
        for number in range(1, most + 1):
            payload = Payload(blocks)
            sending = self._objects.put_part(key, upload_id, number, payload)
            self._flights.begin(sending, payload, parts.append)
            if self._source.is_ended or number == most:
                break
            await self._flights.room(min(self._buffers - 1, self._plan.connections))
            blocks = await self._source.collect(self._part)
        await self._flights.room(0)
        return parts

    async def _send_composed(self, upload_id: str, number: int) -> SentPart:
        """Send data in parts of another object, of which the server makes one part of this."""
        if number > MOST_PARTS:
            raise StoreFull("The data is too large for one object")
        tail = Written(tail_key(self._written.key))
        blocks = await self._source.collect(self._part)
        tail_id = await self._begin(tail)
        most = -(-self._plan.composed // self._part)
        parts = await self._send_parts(tail.key, tail_id, blocks, most)
        await self._complete(tail, tail_id, parts)
        copied: list[SentPart] = []
        copying = self._objects.copy_part(self._written.key, upload_id, number, tail.key)
        await self._flights.call(copying, _nothing(), copied.append)
        await self._objects.remove(tail.key)
        return copied[0]

    # -- data that is sent while it comes ---------------------------------------------------------

    async def _send_streamed(self, size: int) -> None:
        await self._put(Streamed(size, self._source.stream(size, is_last=True)))

    async def _send_streamed_parts(self, size: int) -> None:
        upload_id = await self._begin(self._written, is_collected=False)
        parts: list[SentPart] = []
        for begin in range(0, size, self._part):
            length = min(self._part, size - begin)
            is_last = begin + length == size
            payload = Streamed(length, self._source.stream(length, is_last))
            number = len(parts) + 1
            sending = self._objects.put_part(self._written.key, upload_id, number, payload)
            self._flights.begin(sending, payload, parts.append)
            await self._flights.room(0)
        await self._complete(self._written, upload_id, parts)

    # -- requests after which there is something to undo ------------------------------------------

    async def _begin(self, written: Written, is_collected: bool = True) -> str:
        self._begun.append(written)
        has_checksums = self._plan.has_checksums and is_collected
        beginning = self._objects.begin(written, has_checksums)
        await self._flights.call(beginning, _nothing(), partial(self._ids.__setitem__, written))
        return self._ids[written]

    async def _put(self, payload: Payload | Streamed) -> None:
        self._may_be_written.append(self._written)
        await self._flights.call(self._objects.put(self._written, payload), payload)

    async def _complete(self, written: Written, upload_id: str, parts: list[SentPart]) -> None:
        self._may_be_written.append(written)
        await self._flights.call(self._objects.complete(written, upload_id, parts), _nothing())


def _nothing() -> Payload:
    """Return the data of a request that has none: the server may have the whole request."""
    return Payload([], is_sent=True)


def tail_key(key: str) -> str:
    """Return the key under which data is kept until it becomes a part; no image has it."""
    return f"{key}.tail"
