"""Bodies to be sent, as a store would open them."""

import os
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import ClassVar, Literal

import attrs

from imgservice.concurrency.threads import Threads
from imgservice.http.request import StreamingRequest
from imgservice.http.sending import Sender
from imgservice.http.throttle import Throttle
from tests.http.serving import reactor


@attrs.frozen
class _File:
    is_file: ClassVar[Literal[True]] = True
    descriptor: int
    start: int
    length: int

    async def rest(self, done: int, reason: Exception) -> None:
        """There is no other copy."""


@attrs.frozen
class _Blocks:
    is_file: ClassVar[Literal[False]] = False
    _blocks: AsyncGenerator[bytes, None]
    length: int

    def blocks(self) -> AsyncGenerator[bytes, None]:
        return self._blocks

    async def aclose(self) -> None:
        await self._blocks.aclose()


async def send_file(
    request: StreamingRequest,
    path: Path,
    start: int,
    length: int,
    threads: Threads,
    throttle: Throttle | None = None,
) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        await Sender(reactor, threads).send(request, _File(descriptor, start, length), throttle)
    finally:
        os.close(descriptor)


async def send_blocks(
    request: StreamingRequest,
    blocks: AsyncGenerator[bytes, None],
    length: int,
    throttle: Throttle | None = None,
) -> None:
    idle = Threads(reactor, 1, "idle")
    async with aclosing(blocks):
        await Sender(reactor, idle).send(request, _Blocks(blocks, length), throttle)
