"""The drivers that the contract suite runs against: how each is started, and what it leaves."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack
from ipaddress import ip_network
from pathlib import Path
from typing import Any, cast

import attrs
from twisted.internet import reactor

from imgservice.concurrency.memory import SharedMemory
from imgservice.concurrency.reactor import Reactor
from imgservice.concurrency.threads import Threads
from imgservice.domain.units import Secret, Size
from imgservice.domain.url_filter import UrlFilter
from imgservice.net.client import Fetcher
from imgservice.store.file.config import FileConfig
from imgservice.store.file.store import FileStore
from imgservice.store.http import HttpConfig, HttpStore
from imgservice.store.interface import Store
from imgservice.store.memory import MemoryConfig, MemoryStore
from imgservice.store.s3.config import Checksums, S3Config
from imgservice.store.s3.store import S3Store
from imgservice.store.swift.config import SwiftConfig
from imgservice.store.swift.store import SwiftStore
from tests import moto, swift
from tests.origin import origin

CAPACITY = 80 * 1024 * 1024


@attrs.frozen
class Subject:
    """A store under test.

    `url` returns the URL that the object of an image has. `leftovers` describes everything that is
    in the store, in any words; an empty list means an empty store. `put` adds an object to a
    read-only store by other means; only such stores have it. `stop` stops what was started for the
    store. `turn` is how many seconds later an `add` is cancelled each time.
    """

    store: Store
    url: Callable[[str], str]
    leftovers: Callable[[], Awaitable[list[str]]]
    put: Callable[[str, bytes], str] | None = None
    stop: Callable[[], None] = lambda: None
    turn: float = 0.0


Start = Callable[[Path, Threads], Awaitable[Subject]]


async def start_memory(directory: Path, threads: Threads) -> Subject:
    config = MemoryConfig(capacity=Size(CAPACITY))
    store = MemoryStore("test", config, threads)

    async def leftovers() -> list[str]:
        """There is room for an object of the whole capacity only when nothing is left."""
        stored = await store.add("whole", _once(bytes(CAPACITY)), CAPACITY)
        await store.delete(stored.url)
        return []

    return Subject(store, lambda image_id: f"memory://test/{image_id}", leftovers)


async def start_file(directory: Path, threads: Threads) -> Subject:
    return await _file_subject(directory, FileConfig(path=str(directory / "images")), threads)


async def start_file_thin(directory: Path, threads: Threads) -> Subject:
    config = FileConfig(path=str(directory / "images"), thin=True, fsync=True, file_mode="0640")
    return await _file_subject(directory, config, threads)


async def start_file_several(directory: Path, threads: Threads) -> Subject:
    config = FileConfig(paths={str(directory / "one"): 10, str(directory / "two"): 10})
    return await _file_subject(directory, config, threads)


async def _file_subject(directory: Path, config: FileConfig, threads: Threads) -> Subject:
    store = FileStore("test", config, threads)
    await store.check()
    home = next(iter(config.priorities))

    async def leftovers() -> list[str]:
        return [str(path) for path in directory.rglob("*") if not path.is_dir()]

    return Subject(store, lambda image_id: f"file://{home}/{image_id}", leftovers)


async def _once(block: bytes) -> AsyncIterator[bytes]:
    yield block


def start_http(**page: Any) -> Start:
    async def start(directory: Path, threads: Threads) -> Subject:
        serving = ExitStack()
        web = serving.enter_context(origin())
        here = [ip_network("127.0.0.1/32")]
        fetcher = Fetcher(reactor, UrlFilter(allowed_ports=(), exempt=here))
        store = HttpStore("test", HttpConfig(), threads, fetcher)

        async def leftovers() -> list[str]:
            return []

        return Subject(
            store,
            lambda image_id: web.url(f"/{image_id}"),
            leftovers,
            lambda image_id, data: web.put(f"/{image_id}", data, **page),
            serving.close,
        )

    return start


def start_swift(**options: Any) -> Start:
    async def start(directory: Path, threads: Threads) -> Subject:
        server = swift.shared()
        container = server.container()
        config = SwiftConfig(
            auth_url=server.auth_url,
            auth="v1",
            user=swift.USER,
            key=Secret(swift.KEY),
            container=container,
            **options,
        )
        store = SwiftStore("test", config, threads, cast(Reactor, reactor))

        async def leftovers() -> list[str]:
            return await threads.run(server.objects, container)

        return Subject(
            store,
            lambda image_id: f"swift+config://ref1/{container}/{image_id}",
            leftovers,
            turn=0.03,
        )

    return start


def start_s3(**options: Any) -> Start:
    """Run against Swift's server of S3."""

    async def start(directory: Path, threads: Threads) -> Subject:
        server = swift.shared()
        bucket = server.container()
        store = s3_store(server.url, bucket, swift.USER, swift.KEY, threads, **options)

        async def leftovers() -> list[str]:
            return await threads.run(server.objects, bucket)

        return Subject(
            store, lambda image_id: s3_url(server.url, bucket, image_id), leftovers, turn=0.03
        )

    return start


def start_s3_moto(**options: Any) -> Start:
    async def start(directory: Path, threads: Threads) -> Subject:
        server = moto.shared()
        bucket = server.bucket()
        store = s3_store(server.url, bucket, "any", "key", threads, **options)

        async def leftovers() -> list[str]:
            return await threads.run(server.objects, bucket)

        return Subject(
            store, lambda image_id: s3_url(server.url, bucket, image_id), leftovers, turn=0.03
        )

    return start


def s3_store(
    host: str,
    bucket: str,
    access_key: str,
    secret_key: str,
    threads: Threads,
    memory: int = 128 << 20,
    **options: Any,
) -> S3Store:
    config = S3Config(
        host=host,
        bucket=bucket,
        access_key=Secret(access_key),
        secret_key=Secret(secret_key),
        **options,
    )
    return S3Store("test", config, threads, cast(Reactor, reactor), SharedMemory(memory))


def s3_url(host: str, bucket: str, image_id: str) -> str:
    return f"s3://{host.partition('://')[2]}/{bucket}/{image_id}"


CHECKSUMS = Checksums(request="when_supported", response="when_supported")

DRIVERS: dict[str, Start] = {
    "memory": start_memory,
    "file": start_file,
    "file, thin and synced": start_file_thin,
    "file, two directories": start_file_several,
    "s3": start_s3(multipart_from=Size(0), part_size=Size(5 << 20)),
    "s3, of moto": start_s3_moto(multipart_from=Size(5 << 20), checksums=CHECKSUMS),
    # What is of unknown size, or larger, is in segments.
    "swift": start_swift(segment_from=Size(2_000_000), segment_size=Size(10_000_000)),
}

READ_ONLY: dict[str, Start] = {
    "http": start_http(),
    "http, without ranges": start_http(ranges=False, head=False),
}
