"""Answers that are finished before the request's body is."""

import time
from collections.abc import Callable

import pytest
import pytest_twisted

from imgservice.domain.errors import Conflict
from imgservice.http.channel import DRAIN_LIMIT
from imgservice.http.request import StreamingRequest
from imgservice.http.response import Response
from tests.http.serving import (
    LONG,
    TIMEOUT,
    Serving,
    StoppedClock,
    Wire,
    chunked,
    echo,
    request_bytes,
    until_in_thread,
)

Serve = Callable[..., Serving]
LARGE = 50_000_000


async def refuse(request: StreamingRequest) -> Response:
    """Refuse bodies without reading them; echo what has none."""
    if request.body.length == 0:
        return await echo(request)
    raise Conflict("no, thank you")


@pytest_twisted.ensureDeferred
async def test_small_rest_is_drained_and_the_connection_stays(serve_both: Serve) -> None:
    def client(wire: Wire) -> None:
        for _ in range(3):
            wire.send(request_bytes("PUT", "/x", f"Content-Length: {DRAIN_LIMIT}"))
            wire.send(bytes(1000))
            reply = wire.reply()
            assert reply.status == 409 and "connection" not in reply.headers
            wire.send(bytes(DRAIN_LIMIT - 1000))
            wire.ask("GET")
            assert wire.reply().body == b"GET /x "

    await serve_both(refuse).talk(client)


@pytest_twisted.ensureDeferred
async def test_next_request_waits_for_the_rest(serve: Serve) -> None:
    """Bytes of the unread body that look like a request are not one."""

    def client(wire: Wire) -> None:
        body = request_bytes("GET", "/smuggled")
        wire.ask("PUT", body=body)
        wire.ask("GET", "/next")
        assert wire.reply().status == 409
        assert wire.reply().body == b"GET /next "

    await serve(refuse).talk(client)


@pytest_twisted.ensureDeferred
async def test_large_rest_ends_the_connection(serve_both: Serve) -> None:
    """Twenty times: a reset would destroy the answer now and then only."""
    serving = serve_both(refuse)

    def client(wire: Wire) -> None:
        wire.send(request_bytes("PUT", "/x", f"Content-Length: {LARGE}"))
        wire.send(bytes(LARGE))
        reply = wire.reply()
        assert (reply.status, reply.headers["connection"]) == (409, "close")
        assert wire.ends()

    for _ in range(20):
        await serving.talk(client)
        await serving.quiet()


@pytest_twisted.ensureDeferred
async def test_chunked_rest_ends_the_connection(serve_both: Serve) -> None:
    serving = serve_both(refuse)

    def client(wire: Wire) -> None:
        wire.send(request_bytes("PUT", "/x", "Transfer-Encoding: chunked"))
        wire.send(chunked(*[bytes(1 << 20)] * 8))
        reply = wire.reply()
        assert (reply.status, reply.headers["connection"]) == (409, "close")
        assert wire.ends()

    await serving.talk(client)
    await serving.quiet()


@pytest_twisted.ensureDeferred
async def test_client_sees_the_end_before_it_has_sent_all(serve_both: Serve) -> None:
    serving = serve_both(refuse, linger_idle=LONG)

    def client(wire: Wire) -> None:
        wire.send(request_bytes("PUT", "/x", f"Content-Length: {LARGE}") + bytes(1000))
        assert wire.reply().status == 409
        assert wire.ends()

    await serving.talk(client)
    await serving.quiet()


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("length", [LARGE, DRAIN_LIMIT])
async def test_client_that_never_stops_sending_is_cut_off(serve_both: Serve, length: int) -> None:
    serving = serve_both(refuse, linger_time=0.5)

    def client(wire: Wire) -> float:
        started = time.monotonic()
        wire.send(request_bytes("PUT", "/x", f"Content-Length: {length}"))
        with pytest.raises(OSError):
            while time.monotonic() - started < TIMEOUT:
                wire.send(b"x")
                time.sleep(0.01)
        return time.monotonic() - started

    assert 0.4 < await serving.talk(client) < TIMEOUT


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("length", [LARGE, DRAIN_LIMIT])
async def test_client_that_stops_sending_is_closed(serve_both: Serve, length: int) -> None:
    serving = serve_both(refuse, linger_idle=0.2)

    def client(wire: Wire) -> None:
        wire.send(request_bytes("PUT", "/x", f"Content-Length: {length}"))
        assert wire.reply().status == 409
        serving.until_left()

    await serving.talk(client)


@pytest_twisted.ensureDeferred
async def test_idle_time_after_a_drained_rest_is_the_usual_one(serve: Serve) -> None:
    serving = serve(refuse, clock=StoppedClock(), linger_idle=1, linger_time=2)

    def client(wire: Wire) -> None:
        wire.send(request_bytes("PUT", "/x", "Content-Length: 4"))
        assert wire.reply().status == 409
        wire.send(b"body")
        (channel,) = serving.site.channels
        until_in_thread(lambda: channel.is_idle)
        for _ in range(5):
            serving.passes(1)
        wire.ask("GET")
        assert wire.reply().body == b"GET /x "

    await serving.talk(client)


@pytest_twisted.ensureDeferred
async def test_client_that_left_after_an_early_answer(serve_both: Serve) -> None:
    serving = serve_both(refuse)

    def client(wire: Wire) -> None:
        wire.send(request_bytes("PUT", "/x", "Content-Length: 1000"))
        assert wire.reply().status == 409

    await serving.talk(client)
    await serving.quiet()
    (request,) = serving.site.logged
    assert (request.code, request.aborted) == (409, False)


@pytest_twisted.ensureDeferred
async def test_answer_amid_a_paused_body(serve_both: Serve) -> None:
    """The handler has read some, the connection is paused, and then it says no."""

    async def handler(request: StreamingRequest) -> Response:
        await request.body.read(100_000)
        time.sleep(0.05)
        raise Conflict("enough")

    def client(wire: Wire) -> None:
        wire.send(request_bytes("PUT", "/x", f"Content-Length: {LARGE}"))
        wire.send(bytes(LARGE))
        assert wire.reply().status == 409
        assert wire.ends()

    serving = serve_both(handler)
    await serving.talk(client)
    await serving.quiet()


@pytest_twisted.ensureDeferred
async def test_early_answer_larger_than_all_buffers(serve_both: Serve) -> None:
    """Neither side waits for the other for ever, even if both want to send first."""

    async def handler(_: StreamingRequest) -> Response:
        return Response(200, bytes(20 << 20))

    def client(wire: Wire) -> int:
        wire.send(request_bytes("PUT", "/x", f"Content-Length: {LARGE}"))
        wire.send(bytes(LARGE))
        size = len(wire.reply().body)
        assert wire.ends()
        return size

    assert await serve_both(handler).talk(client) == 20 << 20
