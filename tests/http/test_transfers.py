"""Throttled transfers: the rate is kept, and a client that disconnects is noticed."""

import time
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, DeferredList

from imgservice.concurrency.threads import Threads
from imgservice.domain.context import Context
from imgservice.domain.errors import TooManyRequests
from imgservice.domain.rates import Buckets, ByteRate, Places
from imgservice.http.request import StreamingRequest
from imgservice.http.response import Response
from imgservice.http.throttle import ByteRates, Throttle, Transfers
from tests.http.bodies import send_blocks, send_file
from tests.http.serving import (
    TIMEOUT,
    Handler,
    Serving,
    Wire,
    reactor,
    request_bytes,
    until_in_thread,
)

Serve = Callable[..., Serving]
MiB = 1 << 20
RATE = 2 * MiB
BURST = 1 * MiB


class Counting(Buckets):
    """Knows what was paid."""

    paid = 0.0

    def take(self, key: str, now: float, count: float = 1) -> None:
        self.paid += count
        super().take(key, now, count)


@pytest.fixture
def buckets() -> Counting:
    return Counting(ByteRate(RATE, BURST))


def limits(buckets: Buckets | None, places: Places | None = None) -> Transfers:
    rates = ByteRates(by_project=buckets)
    return Transfers(reactor, rates, rates, places or Places(None, None), ("admin",))


def throttle_of(request: StreamingRequest, buckets: Buckets) -> Throttle | None:
    request.context = Context("alice", request.header("x-project") or "red")
    return limits(buckets).outgoing(request)


def file_at_a_pace(size: int, folder: Path, threads: Threads, buckets: Buckets) -> Handler:
    (folder / "image").write_bytes(bytes(size))

    async def handler(request: StreamingRequest) -> None:
        request.setHeader("content-length", str(size))
        throttle = throttle_of(request, buckets)
        await send_file(request, folder / "image", 0, size, threads, throttle)

    return handler


def blocks_at_a_pace(size: int, buckets: Buckets) -> Handler:
    async def blocks() -> AsyncGenerator[bytes, None]:
        for _ in range(size // MiB):
            yield bytes(MiB)

    async def handler(request: StreamingRequest) -> None:
        request.setHeader("content-length", str(size))
        await send_blocks(request, blocks(), size, throttle_of(request, buckets))

    return handler


def throttled_body(buckets: Buckets) -> Handler:
    async def handler(request: StreamingRequest) -> Response:
        total, throttle = 0, throttle_of(request, buckets)
        assert throttle is not None
        async for block in throttle.slowed(request.body.blocks, MiB, lambda: 8 * MiB):
            total += len(block)
        return Response(200, b"%d" % total)

    return handler


def timed(call: Callable[[], object]) -> float:
    begun = time.monotonic()
    call()
    return time.monotonic() - begun


def downloaded(wire: Wire, size: int, *headers: str) -> float:
    wire.ask("GET", "/x", *headers)
    return timed(lambda: len(wire.reply().body) == size or pytest.fail("not all came"))


def uploaded(wire: Wire, size: int) -> float:
    def upload() -> None:
        wire.ask("PUT", body=bytes(size))
        assert wire.reply().body == b"%d" % size

    return timed(upload)


# -- the rate -------------------------------------------------------------------------------------

SIZE = 5 * MiB


def is_paced(seconds: float, size: int = SIZE, early: float = 0.1) -> bool:
    """Tell whether that was no faster than the rate; on a busy machine it takes any time."""
    return seconds > (1 - early) * (size - BURST) / RATE


def is_paid_once(buckets: Counting, size: int = SIZE) -> bool:
    """Tell whether each byte was paid once, else the rate would be another one.

    Nobody waits for the last piece.
    """
    return size - MiB <= buckets.paid <= size


@pytest_twisted.ensureDeferred
async def test_pace_of_a_file(
    serve: Serve, threads: Threads, tmp_path: Path, buckets: Counting
) -> None:
    serving = serve(file_at_a_pace(SIZE, tmp_path, threads, buckets))
    assert is_paced(await serving.talk(lambda wire: downloaded(wire, SIZE)))
    assert is_paid_once(buckets)


@pytest_twisted.ensureDeferred
async def test_pace_of_blocks(serve_both: Serve, buckets: Counting) -> None:
    serving = serve_both(blocks_at_a_pace(SIZE, buckets))
    assert is_paced(await serving.talk(lambda wire: downloaded(wire, SIZE)))
    assert is_paid_once(buckets)


@pytest_twisted.ensureDeferred
async def test_pace_of_a_body(serve_both: Serve, buckets: Counting) -> None:
    serving = serve_both(throttled_body(buckets))
    assert is_paced(await serving.talk(lambda wire: uploaded(wire, SIZE)))
    assert is_paid_once(buckets)


@pytest_twisted.ensureDeferred
async def test_a_project_shares_its_rate_and_another_has_its_own(
    serve: Serve, threads: Threads, tmp_path: Path, buckets: Counting
) -> None:
    size = 3 * MiB
    serving = serve(file_at_a_pace(size, tmp_path, threads, buckets))

    begun: list[float] = []
    connected = Barrier(4, lambda: begun.append(time.monotonic()))

    def client_of(project: str) -> Callable[[Wire], float]:
        def client(wire: Wire) -> float:
            connected.wait(TIMEOUT)
            downloaded(wire, size, f"X-Project: {project}")
            return time.monotonic() - begun[0]

        return client

    talks = [serving.talk(client_of(project)) for project in ("red", "red", "red", "blue")]
    results = await DeferredList([Deferred.fromCoroutine(talk) for talk in talks])
    *red, blue = [seconds for _, seconds in results]
    assert is_paced(max(red), 3 * size)
    # One after the other, the first would end after a third of the time.
    assert is_paced(min(red), 3 * size, early=0.5), "each gets its part all the time"
    assert is_paced(blue, size, early=0.25)
    assert blue < max(red)


@pytest_twisted.ensureDeferred
async def test_little_of_a_slow_upload_waits_in_memory(serve: Serve) -> None:
    """What the client cannot send yet waits on its side."""
    slow = Buckets(ByteRate(MiB, 64 << 10))
    serving = serve(throttled_body(slow))

    def client(wire: Wire) -> None:
        wire.socket.settimeout(0.3)
        with pytest.raises(TimeoutError):
            wire.ask("PUT", body=bytes(64 * MiB))
        until_in_thread(lambda: any(one.requests for one in serving.site.channels))
        (channel,) = serving.site.channels
        assert channel.requests[0].body.received < 2 * MiB
        wire.reset()

    await serving.talk(client)
    await serving.quiet()


# -- the end --------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("kind", ["file", "blocks", "body"])
async def test_client_leaves_while_nothing_moves(
    serve: Serve, threads: Threads, tmp_path: Path, kind: str
) -> None:
    slow = Buckets(ByteRate(1000, 1))  # a first piece makes a debt of many seconds
    handlers: dict[str, Callable[[], Any]] = {
        "file": lambda: file_at_a_pace(SIZE, tmp_path, threads, slow),
        "blocks": lambda: blocks_at_a_pace(SIZE, slow),
        "body": lambda: throttled_body(slow),
    }
    serving = serve(handlers[kind]())

    def client(wire: Wire) -> None:
        if kind == "body":
            wire.send(request_bytes("PUT", "/x", f"Content-Length: {MiB}") + bytes(40_000))
        else:
            wire.ask("GET")
        until_in_thread(lambda: bool(serving.tasks._running))
        time.sleep(0.3)
        assert serving.tasks._running, "it rests"

    begun = time.monotonic()
    await serving.talk(client)
    await serving.quiet()
    assert time.monotonic() - begun < TIMEOUT


@pytest_twisted.ensureDeferred
async def test_waiting_is_no_idling(serve: Serve, threads: Threads, tmp_path: Path) -> None:
    """A client that is made to wait longer than the idle timeout is not cut off."""
    size = 64 << 10
    files = file_at_a_pace(size, tmp_path, threads, Buckets(ByteRate(size // 2, 1)))
    serving = serve(files, idle_timeout=0.3)
    assert await serving.talk(lambda wire: downloaded(wire, size)) > 1
    serving = serve(throttled_body(Buckets(ByteRate(size // 2, 1))), idle_timeout=0.3)
    assert await serving.talk(lambda wire: uploaded(wire, size)) > 1


@pytest_twisted.ensureDeferred
async def test_who_is_exempt_has_no_pace(serve: Serve, buckets: Counting) -> None:
    found: list[Throttle | None] = []

    async def handler(request: StreamingRequest) -> Response:
        for roles in ("admin", "member"):
            request.context = Context("alice", "red", frozenset((roles,)))
            found.append(limits(buckets).incoming(request))
        found.append(limits(None).incoming(request))
        return Response(200)

    def client(wire: Wire) -> None:
        wire.ask("GET")
        assert wire.reply().status == 200

    await serve(handler).talk(client)
    admin, member, unlimited = found
    assert admin is None and unlimited is None
    assert isinstance(member, Throttle)


# -- uploads at the same time ---------------------------------------------------------------------


def test_places_of_uploads() -> None:
    transfers = limits(None, Places(in_all=3, of_each=1))
    alice, bob = Context("alice", "red"), Context("bob", "blue")
    admin = Context("boss", "red", frozenset(("admin",)))
    with transfers.upload(alice):
        with pytest.raises(TooManyRequests, match="of your project"), transfers.upload(alice):
            pass
        with transfers.upload(admin), transfers.upload(bob):
            for late in (alice, bob, admin):
                with pytest.raises(TooManyRequests) as caught, transfers.upload(late):
                    pass
                assert caught.value.wait > 0
    with transfers.upload(alice):
        pass
