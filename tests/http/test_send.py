"""Downloads: exact bytes, headers first, no faster than the client reads, and cut when short."""

import hashlib
import os
import random
import resource
import time
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import ParamSpec, TypeVar

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, DeferredList
from twisted.logger import LogEvent

from imgservice.concurrency.threads import Threads
from imgservice.http.aborted import ShortData
from imgservice.http.request import StreamingRequest
from imgservice.http.response import Response
from imgservice.http.sendfile import in_memory
from tests.http.bodies import send_blocks, send_file
from tests.http.serving import (
    Handler,
    Serving,
    Signal,
    StoppedClock,
    Wire,
    echo,
    pause,
    reactor,
    request_bytes,
    until,
)

Serve = Callable[..., Serving]
P = ParamSpec("P")
T = TypeVar("T")
MiB = 1 << 20


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "image"
    path.write_bytes(random.Random(4).randbytes(5 * MiB + 17))
    return path


def from_file(path: Path, threads: Threads, start: int = 0, length: int | None = None) -> Handler:
    async def handler(request: StreamingRequest) -> None:
        count = path.stat().st_size - start if length is None else length
        request.setHeader("content-length", str(count))
        await send_file(request, path, start, count, threads)

    return handler


class Blocks:
    """A store's data, block by block; knows how far it was read and whether it was closed."""

    def __init__(self, size: int, block: int = MiB) -> None:
        self.size, self._block = size, block
        self.given = 0
        self.closed = False

    async def read(self) -> AsyncGenerator[bytes, None]:
        try:
            while self.given < self.size:
                await pause(0)
                block = bytes(min(self._block, self.size - self.given))
                self.given += len(block)
                yield block
        finally:
            self.closed = True

    def handler(self, promised: int | None = None) -> Handler:
        async def handler(request: StreamingRequest) -> None:
            length = self.size if promised is None else promised
            request.setHeader("content-length", str(length))
            await send_blocks(request, self.read(), length)

        return handler


# -- files ----------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("start", "length"),
    [(0, None), (0, 0), (0, 1), (1, MiB), (MiB - 1, 2), (5 * MiB + 16, 1), (5 * MiB + 17, 0)],
)
async def test_part_of_a_file(
    serve: Serve, threads: Threads, file: Path, start: int, length: int | None
) -> None:
    end = None if length is None else start + length
    expected = file.read_bytes()[start:end]

    def client(wire: Wire) -> None:
        for _ in range(2):
            wire.ask("GET")
            assert wire.reply().body == expected

    await serve(from_file(file, threads, start, length)).talk(client)


@pytest_twisted.ensureDeferred
async def test_many_parts_of_a_file(serve: Serve, threads: Threads, file: Path) -> None:
    chance = random.Random(8)
    content = file.read_bytes()

    async def handler(request: StreamingRequest) -> None:
        start, length = (int(part) for part in request.path[1:].split(b"-"))
        await from_file(file, threads, start, length)(request)

    def client(wire: Wire) -> None:
        for _ in range(100):
            start = chance.randrange(len(content))
            length = chance.randrange(min(len(content) - start, 300_000) + 1)
            wire.ask("GET", f"/{start}-{length}")
            assert wire.reply().body == content[start : start + length]

    await serve(handler).talk(client)


@pytest_twisted.ensureDeferred
async def test_eight_downloads_at_once(serve: Serve, threads: Threads, file: Path) -> None:
    serving = serve(from_file(file, threads))
    expected = hashlib.sha256(file.read_bytes()).digest()

    def client(wire: Wire) -> bytes:
        wire.ask("GET")
        return hashlib.sha256(wire.reply().body).digest()

    found = await DeferredList([_deferred(serving, client) for _ in range(8)])
    assert found == [(True, expected)] * 8


def _deferred(serving: Serving, client: Callable[[Wire], bytes]) -> "Deferred[bytes]":
    return Deferred.fromCoroutine(serving.talk(client))


@pytest_twisted.ensureDeferred
async def test_slow_reader_of_a_file_uses_no_memory(
    serve: Serve, threads: Threads, tmp_path: Path
) -> None:
    path = tmp_path / "holes"
    path.touch()
    os.truncate(path, 200 * MiB)
    serving = serve(from_file(path, threads))

    def client(wire: Wire) -> None:
        wire.ask("GET")
        wire.head()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        time.sleep(0.3)
        for _ in range(200):
            wire.exactly(MiB)
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 16 << 10

    await serving.talk(client, receive_buffer=65536)


class CountingThreads(Threads):
    """Knows how often something was handed to a thread."""

    calls = 0

    def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> "Deferred[T]":
        self.calls += 1
        return super().run(work, *args, **kwargs)


@pytest.mark.parametrize("cold", [True, False])
@pytest_twisted.ensureDeferred
async def test_cold_file_is_read_in_a_thread(serve: Serve, tmp_path: Path, cold: bool) -> None:
    path = tmp_path / "cold"
    content = random.Random(5).randbytes(8 * MiB)
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR)
    try:
        os.write(descriptor, content)
        os.fsync(descriptor)
        if cold:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        if cold and in_memory(descriptor, 0, len(content)):
            pytest.skip("this file system keeps its pages, or cannot tell")
    finally:
        os.close(descriptor)

    def client(wire: Wire) -> bytes:
        wire.ask("GET")
        return wire.reply().body

    counting = CountingThreads(reactor, 1, "counting")
    assert await serve(from_file(path, counting)).talk(client) == content
    counting.stop()
    assert (counting.calls > 0) is cold


@pytest_twisted.ensureDeferred
async def test_file_shorter_than_promised(
    serve: Serve, threads: Threads, file: Path, logged: list[LogEvent]
) -> None:
    size = file.stat().st_size

    def client(wire: Wire) -> None:
        wire.ask("GET")
        with pytest.raises((OSError, AssertionError)):
            wire.reply()

    serving = serve(from_file(file, threads, 0, size + 1))
    await serving.talk(client)
    await serving.quiet()
    (event,) = logged
    assert event["log_failure"].check(ShortData)
    logged.clear()


@pytest_twisted.ensureDeferred
async def test_client_leaves_amid_a_file(serve: Serve, threads: Threads, file: Path) -> None:
    os.truncate(file, 100 * MiB)
    serving = serve(from_file(file, threads))

    def client(wire: Wire) -> None:
        wire.ask("GET")
        wire.exactly(100_000)
        wire.reset()

    for _ in range(5):
        await serving.talk(client, receive_buffer=4096)
        await serving.quiet()
    assert all(request.aborted for request in serving.site.logged)


@pytest_twisted.ensureDeferred
async def test_reader_of_a_file_that_stops_is_cut(
    serve: Serve, threads: Threads, file: Path
) -> None:
    os.truncate(file, 100 * MiB)
    serving = serve(from_file(file, threads), clock=StoppedClock(), idle_timeout=10)

    def client(wire: Wire) -> None:
        wire.ask("GET")
        wire.head()
        serving.until_left()

    await serving.talk(client, receive_buffer=4096)
    await serving.quiet()


@pytest_twisted.ensureDeferred
async def test_slow_reader_of_a_file_is_not_cut(serve: Serve, threads: Threads, file: Path) -> None:
    os.truncate(file, 40 * MiB)  # the kernel keeps a small part of it
    serving = serve(from_file(file, threads), clock=StoppedClock(), idle_timeout=10)

    def client(wire: Wire) -> None:
        wire.ask("GET")
        wire.head()
        for _ in range(20):
            wire.exactly(2 * MiB)
            serving.passes(2)

    await serving.talk(client, receive_buffer=65536)


# -- blocks ---------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("size", [0, 1, MiB, 20 * MiB + 3])
async def test_blocks(serve_both: Serve, size: int) -> None:
    blocks = Blocks(size)

    def client(wire: Wire) -> int:
        wire.ask("GET")
        return len(wire.reply().body)

    assert await serve_both(blocks.handler()).talk(client) == size
    assert blocks.closed


@pytest_twisted.ensureDeferred
async def test_blocks_wait_for_a_slow_reader(serve_both: Serve) -> None:
    blocks = Blocks(200 * MiB)

    def client(wire: Wire) -> None:
        wire.ask("GET")
        wire.head()
        time.sleep(0.3)
        assert blocks.given < 16 * MiB
        for _ in range(200):
            wire.exactly(MiB)

    await serve_both(blocks.handler()).talk(client, receive_buffer=65536)


@pytest_twisted.ensureDeferred
async def test_blocks_behind_an_answer_that_waits(serve_both: Serve) -> None:
    """A pipelined download does not start on a connection that is full already."""
    blocks = Blocks(64 * MiB)
    download = blocks.handler()

    async def handler(request: StreamingRequest) -> Response | None:
        return Response(200, bytes(8 * MiB)) if request.path == b"/a" else await download(request)

    def client(wire: Wire) -> None:
        wire.send(request_bytes("GET", "/a") + request_bytes("GET", "/b"))
        time.sleep(0.3)
        assert blocks.given < 16 * MiB
        assert len(wire.reply().body) == 8 * MiB
        assert len(wire.reply().body) == 64 * MiB

    await serve_both(handler).talk(client, receive_buffer=65536)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("difference", [-1, 1, -5 * MiB, 5 * MiB])
async def test_blocks_of_another_length(
    serve_both: Serve, logged: list[LogEvent], difference: int
) -> None:
    blocks = Blocks(10 * MiB)
    promised = 10 * MiB + difference

    def client(wire: Wire) -> None:
        wire.ask("GET")
        wire.head()
        received = b""
        with pytest.raises(OSError):
            while piece := wire.some():
                received += piece
            assert len(received) < promised, "a part looks like the whole"
            raise ConnectionError

    serving = serve_both(blocks.handler(promised))
    await serving.talk(client)
    await serving.quiet()
    (event,) = logged
    assert event["log_failure"].check(ShortData)
    assert blocks.closed
    logged.clear()


@pytest_twisted.ensureDeferred
async def test_store_that_fails_amid_a_download(serve_both: Serve, logged: list[LogEvent]) -> None:
    async def failing() -> AsyncGenerator[bytes, None]:
        yield bytes(MiB)
        raise OSError("the disk is on fire")

    async def handler(request: StreamingRequest) -> None:
        request.setHeader("content-length", str(2 * MiB))
        await send_blocks(request, failing(), 2 * MiB)

    def client(wire: Wire) -> None:
        wire.ask("GET")
        with pytest.raises((OSError, AssertionError)):
            wire.reply()

    serving = serve_both(handler)
    await serving.talk(client)
    await serving.quiet()
    assert [str(event["log_failure"].value) for event in logged] == ["the disk is on fire"]
    logged.clear()


@pytest_twisted.ensureDeferred
async def test_client_leaves_amid_blocks(serve_both: Serve) -> None:
    blocks = Blocks(200 * MiB)
    serving = serve_both(blocks.handler())

    def client(wire: Wire) -> None:
        wire.ask("GET")
        wire.exactly(100_000)
        wire.reset()

    await serving.talk(client, receive_buffer=4096)
    await serving.quiet()
    assert blocks.closed and blocks.given < 200 * MiB
    assert [request.aborted for request in serving.site.logged] == [True]


@pytest_twisted.ensureDeferred
async def test_reader_of_blocks_that_stops_is_cut(serve_both: Serve) -> None:
    blocks = Blocks(200 * MiB)
    serving = serve_both(blocks.handler(), clock=StoppedClock(), idle_timeout=10)

    def client(wire: Wire) -> None:
        wire.ask("GET")
        wire.head()
        serving.until_left()

    await serving.talk(client, receive_buffer=4096)
    await serving.quiet()
    assert blocks.closed


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("header", ["X: y", "Connection: close"])
async def test_reader_that_stops_before_the_last_bytes_is_cut(
    serve_both: Serve, header: str
) -> None:
    """The handler is long done, but what it wrote waits here."""

    async def handler(_: StreamingRequest) -> Response:
        return Response(200, bytes(20 * MiB))

    serving = serve_both(handler, clock=StoppedClock(), idle_timeout=10)

    def client(wire: Wire) -> None:
        wire.ask("GET", "/x", header)
        wire.head()
        serving.until_left()

    await serving.talk(client, receive_buffer=4096)
    await serving.quiet()


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("header", ["X: y", "Connection: close"])
async def test_slow_reader_of_the_last_bytes_is_not_cut(serve_both: Serve, header: str) -> None:
    async def handler(_: StreamingRequest) -> Response:
        return Response(200, bytes(8 * MiB))

    times = {"idle_timeout": 10, "linger_time": 1, "linger_idle": 1}
    serving = serve_both(handler, clock=StoppedClock(), **times)

    def client(wire: Wire) -> None:
        wire.ask("GET", "/x", header)
        wire.head()
        for _ in range(16):
            wire.exactly(MiB // 2)
            serving.passes(3)

    await serving.talk(client, receive_buffer=65536)


# -- a client that left before the first byte -----------------------------------------------------


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("way", ["file", "blocks", "answer"])
async def test_client_left_before_the_answer(
    serve_both: Serve, threads: Threads, file: Path, way: str
) -> None:
    started = Signal()
    blocks = Blocks(MiB)
    ways = {"file": from_file(file, threads), "blocks": blocks.handler(), "answer": echo}

    async def handler(request: StreamingRequest) -> Response | None:
        started.happen()
        await until(lambda: request.disconnected)
        return await ways[way](request)

    serving = serve_both(handler)

    def client(wire: Wire) -> None:
        wire.ask("GET")
        started.wait_in_thread()

    await serving.talk(client)
    await serving.quiet()
    assert [request.aborted for request in serving.site.logged] == [True]


@pytest_twisted.ensureDeferred
async def test_client_leaves_before_the_last_look_at_the_store(serve_both: Serve) -> None:
    """All is written, and the store is asked once more whether that was all."""
    written = Signal()
    requests: list[StreamingRequest] = []

    async def blocks() -> AsyncGenerator[bytes, None]:
        yield b"body"
        written.happen()
        await until(lambda: requests[0].disconnected)

    async def handler(request: StreamingRequest) -> None:
        requests.append(request)
        request.setHeader("content-length", "4")
        await send_blocks(request, blocks(), 4)

    serving = serve_both(handler)

    def client(wire: Wire) -> None:
        wire.ask("GET")
        written.wait_in_thread()

    await serving.talk(client)
    await serving.quiet()
