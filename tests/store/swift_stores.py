"""Stores in a Swift, for tests of what only they do."""

from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any, cast

import attrs
from twisted.internet import reactor as installed_reactor
from twisted.internet.threads import deferToThread

from imgservice.concurrency.threads import Threads
from imgservice.domain.units import Secret, Size
from imgservice.store.swift.config import SwiftConfig
from imgservice.store.swift.store import SwiftStore
from tests import swift as swifts
from tests.swift import Swift

KIB = 1024
MIB = 1024 * KIB
IMAGE = "71c675ab-d85a-4c3b-9d4e-0f1a2b3c4d5e"
reactor = cast(Any, installed_reactor)
SMALL = {"segment_from": Size(MIB), "segment_size": Size(MIB)}
"""Segments of 1 MiB."""


@attrs.frozen
class Place:
    """A container of a Swift, and stores in it."""

    swift: Swift
    container: str
    threads: Threads
    told: list[str] = attrs.field(factory=list)
    """What the stores reported."""
    stores: list[SwiftStore] = attrs.field(factory=list)

    def store(self, **options: Any) -> SwiftStore:
        """Make a store in the container, which `close` closes."""
        account: dict[str, Any] = {
            "auth_url": self.swift.auth_url,
            "auth": "v1",
            "user": swifts.USER,
            "key": Secret(swifts.KEY),
            "container": self.container,
        }
        made = SwiftStore("objects", SwiftConfig(**{**account, **options}), self.threads, reactor)
        made.tell = self.told.append
        self.stores.append(made)
        return made

    def objects(self) -> list[str]:
        return self.swift.objects(self.container)

    def put(self, name: str, data: bytes, **headers: str) -> None:
        self.swift.call("PUT", f"/{self.container}/{name}", data, **headers)

    async def close(self) -> None:
        for store in self.stores:
            await store.close()


async def source(blocks: Iterable[bytes]) -> AsyncIterator[bytes]:
    for block in blocks:
        yield block


async def interrupted(
    data: bytes, at: int, happens: Callable[[], object], piece: int = 256 * KIB
) -> AsyncIterator[bytes]:
    """Yield the data in pieces; let something happen, in a thread, when `at` bytes are out."""
    for start in range(0, len(data), piece):
        if start == at:
            await deferToThread(happens)
        yield data[start : start + piece]


async def read(store: SwiftStore, url: str, start: int = 0, length: int | None = None) -> bytes:
    return b"".join([block async for block in store.read(url, start, length)])
