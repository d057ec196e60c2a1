"""Slow clients are disconnected, and none for which we are slow ourselves."""

import os
import socket
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from imgservice.concurrency.threads import Threads
from imgservice.domain.rates import Buckets, ByteRate
from imgservice.http.connection_limits import ConnectionCaps, ConnectionLimits
from imgservice.http.minimum_rate import MinimumRate
from imgservice.http.request import StreamingRequest
from imgservice.http.response import Response
from tests.http.bodies import send_blocks, send_file
from tests.http.serving import (
    Certificate,
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
    until_in_thread,
)
from tests.http.test_transfers import blocks_at_a_pace, file_at_a_pace, throttled_body

Serve = Callable[..., Serving]
MiB = 1 << 20
T = TypeVar("T")
LEAST = MinimumRate(1000, 1.0)
TIMEOUT = 60.0
"""Seconds after which a client that should have been cut was not."""


def trickle(wire: Wire, piece: bytes = b"x", seconds: float = TIMEOUT) -> None:
    """Send a piece now and then until something comes, or the connection ends."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            wire.send(piece)
            if not wire.silent(0.05):
                return
        except OSError:
            return
    raise AssertionError("the client was not cut")


def pass_by(serving: Serving, seconds: float) -> None:
    """Let so much time pass, in a thread, as often looked at as when it passes by itself."""
    for _ in range(round(seconds * 10)):
        serving.passes(0.1)


async def is_served(serving: Serving) -> None:
    """Check that a fast client gets its answer all the while."""

    def client(wire: Wire) -> None:
        wire.ask("PUT", "/good", body=bytes(500_000))
        assert len(wire.reply().body) > 0

    await serving.talk(client)


def several(serving: Serving, client: Callable[[Wire], T], count: int) -> list[Deferred[T]]:
    """Let several clients begin."""
    return [Deferred.fromCoroutine(serving.talk(client)) for _ in range(count)]


# -- bodies ---------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("header", "piece"),
    [("Content-Length: 100000", b"x"), ("Transfer-Encoding: chunked", b"1\r\nx\r\n")],
)
async def test_slow_body_is_answered_408(serve_both: Serve, header: str, piece: bytes) -> None:
    serving = serve_both(echo, minimum_rate=LEAST)

    def client(wire: Wire) -> None:
        wire.send(request_bytes("PUT", "/x", header))
        trickle(wire, piece)
        reply = wire.reply()
        assert (reply.status, reply.headers["connection"]) == (408, "close")

    slow = several(serving, client, 5)
    await is_served(serving)
    for one in slow:
        await one
    await serving.quiet()


@pytest_twisted.ensureDeferred
async def test_slow_body_of_an_answer_that_has_begun(serve_both: Serve) -> None:
    async def handler(request: StreamingRequest) -> None:
        request.setHeader("content-length", "100")
        request.write(b"begun")
        while await request.body.read():
            pass

    serving = serve_both(handler, minimum_rate=LEAST)

    def client(wire: Wire) -> None:
        wire.send(request_bytes("PUT", "/x", "Content-Length: 20000000"))
        assert wire.head() and wire.exactly(5)
        trickle(wire)
        with suppress(ConnectionError):
            assert wire.ends()

    await serving.talk(client)
    await serving.quiet()
    assert [one.aborted for one in serving.site.logged] == [True]


@pytest_twisted.ensureDeferred
async def test_stalls_are_survived(serve: Serve) -> None:
    """What counts is the average."""
    started = Signal()

    async def handler(request: StreamingRequest) -> Response:
        started.happen()
        return await echo(request)

    serving = serve(handler, clock=StoppedClock(), minimum_rate=MinimumRate(1000, 3.0))

    def client(wire: Wire) -> int:
        wire.send(request_bytes("PUT", "/x", "Content-Length: 60000"))
        started.wait_in_thread()
        for _ in range(4):
            wire.send(bytes(15000))
            pass_by(serving, 1.2)
        return wire.reply().status

    assert await serving.talk(client) == 200


@pytest_twisted.ensureDeferred
async def test_a_body_that_we_do_not_read_is_not_slow(serve: Serve) -> None:
    async def handler(request: StreamingRequest) -> Response:
        await deferToThread(pass_by, serving, 2.5)
        return await echo(request)

    serving = serve(handler, clock=StoppedClock(), minimum_rate=LEAST)

    def client(wire: Wire) -> int:
        wire.ask("PUT", body=bytes(8 * MiB))
        return wire.reply().status

    assert await serving.talk(client) == 200


@pytest_twisted.ensureDeferred
async def test_a_body_that_waits_for_continue_is_not_slow(serve: Serve) -> None:
    started, go_on = Signal(), Signal()

    async def handler(request: StreamingRequest) -> Response:
        started.happen()
        await go_on.wait()
        return await echo(request)

    serving = serve(handler, clock=StoppedClock(), minimum_rate=LEAST)

    def client(wire: Wire) -> int:
        wire.send(request_bytes("PUT", "/x", "Content-Length: 4", "Expect: 100-continue"))
        started.wait_in_thread()
        pass_by(serving, 3.0)
        go_on.happen()
        assert wire.reply().status == 100
        wire.send(b"body")
        return wire.reply().status

    assert await serving.talk(client) == 200


# -- answers --------------------------------------------------------------------------------------


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "image"
    path.touch()
    os.truncate(path, 100 * MiB)
    return path


def from_file(path: Path, threads: Threads) -> Handler:
    async def handler(request: StreamingRequest) -> None:
        size = path.stat().st_size
        request.setHeader("content-length", str(size))
        await send_file(request, path, 0, size, threads)

    return handler


async def _blocks(count: int, size: int, seconds: float) -> AsyncGenerator[bytes, None]:
    for _ in range(count):
        await pause(seconds)
        yield bytes(size)


def from_blocks(count: int, size: int, seconds: float = 0) -> Handler:
    async def handler(request: StreamingRequest) -> None:
        request.setHeader("content-length", str(count * size))
        await send_blocks(request, _blocks(count, size, seconds), count * size)

    return handler


async def at_once(_: StreamingRequest) -> Response:
    return Response(200, bytes(9 * MiB))


def sipping(serving: Serving) -> Callable[[Wire], None]:
    """Return a client that reads a byte now and then, until the connection is cut."""

    def client(wire: Wire) -> None:
        wire.ask("GET")
        wire.head()
        deadline = time.monotonic() + TIMEOUT
        while not wire.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            assert time.monotonic() < deadline, "the client was not cut"
            try:
                if not wire.some(1):
                    return
            except OSError:
                return
            pass_by(serving, 0.1)

    return client


@pytest_twisted.ensureDeferred
async def test_slow_reader_of_a_file_is_cut(serve: Serve, threads: Threads, file: Path) -> None:
    serving = serve(from_file(file, threads), clock=StoppedClock(), minimum_rate=LEAST)
    await serving.talk(sipping(serving), receive_buffer=4096)
    await serving.quiet()


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("handler", [from_blocks(100, MiB), at_once])
async def test_slow_reader_of_blocks_is_cut(serve_both: Serve, handler: Handler) -> None:
    """Also when all of the answer is on its way, as far as we are concerned."""
    serving = serve_both(handler, clock=StoppedClock(), minimum_rate=LEAST)
    await serving.talk(sipping(serving), receive_buffer=4096)
    await serving.quiet()


@pytest_twisted.ensureDeferred
async def test_a_slow_store_is_not_the_client(serve_both: Serve) -> None:
    def client(wire: Wire) -> int:
        wire.ask("GET")
        return len(wire.reply().body)

    serving = serve_both(from_blocks(10, 10, 0.15), minimum_rate=MinimumRate(1000, 0.5))
    assert await serving.talk(client) == 100


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("what", ["file", "blocks", "body"])
async def test_a_limited_rate_is_not_slow(
    serve: Serve, threads: Threads, tmp_path: Path, what: str
) -> None:
    """Though it is far below the least rate that is asked of the client."""
    buckets = Buckets(ByteRate(MiB * 2 // 3, 1))
    handler = {
        "file": lambda: file_at_a_pace(MiB, tmp_path, threads, buckets),
        "blocks": lambda: blocks_at_a_pace(MiB, buckets),
        "body": lambda: throttled_body(buckets),
    }[what]()

    def client(wire: Wire) -> int:
        wire.ask("PUT" if what == "body" else "GET", body=bytes(MiB * (what == "body")))
        return wire.reply().status

    serving = serve(handler, minimum_rate=MinimumRate(10 * MiB, 1.0))
    assert await serving.talk(client) == 200


@pytest_twisted.ensureDeferred
async def test_between_requests_nobody_is_slow(serve_both: Serve) -> None:
    serving = serve_both(echo, clock=StoppedClock(), minimum_rate=LEAST)

    def client(wire: Wire) -> None:
        for _ in range(2):
            wire.ask("GET")
            assert wire.reply().status == 200
            until_in_thread(lambda: [one.is_idle for one in serving.site.channels] == [True])
            pass_by(serving, 1.5)
        wire.ask("GET")
        assert wire.reply().status == 200

    await serving.talk(client)


# -- before the first request ---------------------------------------------------------------------


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("piece", [b"", b"\x00"])
async def test_handshake_that_is_never_finished(
    serve: Serve, certificate: Certificate, piece: bytes
) -> None:
    clock = StoppedClock()
    serving = serve(echo, certificate=certificate, clock=clock, header_timeout=10)

    def client(wire: Wire) -> None:
        # The beginning of a ClientHello of 16 KiB.
        wire.send(b"\x16\x03\x01\x40\x00\x01\x00\x3f\xfc\x03\x03")
        trickle(wire, piece)
        assert clock.now > 10

    serving.tls = False
    slow = several(serving, client, 5)
    await until(lambda: len(serving.site.channels) == 5)
    serving.tls = True
    await is_served(serving)
    clock.now += 11
    for one in slow:
        await one
    await serving.quiet()


@pytest_twisted.ensureDeferred
async def test_who_never_asks_is_closed_as_if_his_headers_were_late(serve_both: Serve) -> None:
    serving = serve_both(echo, header_timeout=0.3)
    await serving.talk(lambda wire: wire.ends())
    await serving.quiet()


@pytest_twisted.ensureDeferred
async def test_the_first_body_has_all_the_idle_time(serve: Serve) -> None:
    started = Signal()

    async def handler(request: StreamingRequest) -> Response:
        started.happen()
        return await echo(request)

    serving = serve(handler, clock=StoppedClock(), header_timeout=10)

    def client(wire: Wire) -> int:
        wire.send(request_bytes("PUT", "/x", "Content-Length: 2") + b"x")
        started.wait_in_thread()
        serving.passes(60)
        wire.send(b"x")
        return wire.reply().status

    assert await serving.talk(client) == 200


@pytest_twisted.ensureDeferred
async def test_idle_connections_close_when_others_wait(serve: Serve) -> None:
    limits = ConnectionLimits(reactor, ConnectionCaps(in_all=4))
    clock = StoppedClock()
    serving = serve(echo, connection_limits=limits, clock=clock, crowded_idle=10)
    served: list[Wire] = []

    def idle(wire: Wire) -> bool:
        wire.ask("GET")
        wire.reply()
        served.append(wire)
        return wire.ends()

    others = several(serving, idle, 4)
    await until(lambda: len(served) == 4)
    waiting = Deferred.fromCoroutine(is_served(serving))
    await until(lambda: limits.is_crowded)
    clock.now += 11
    await waiting
    assert [await one for one in others] == [True] * 4
