"""Bodies of requests: when handlers start, how the bytes flow, and when the client may send."""

import resource
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import pytest_twisted

from imgservice.domain.errors import BodyAborted
from imgservice.http.channel import READ_SIZE
from imgservice.http.request import StreamingRequest
from imgservice.http.response import Response
from tests.http.serving import (
    LONG,
    TIMEOUT,
    Serving,
    Signal,
    StoppedClock,
    Wire,
    chunked,
    echo,
    in_reactor,
    pause,
    request_bytes,
    until_in_thread,
)

Serve = Callable[..., Serving]
LAST_CHUNK = b"0\r\n\r\n"


@pytest_twisted.ensureDeferred
async def test_handler_starts_at_end_of_headers(serve_both: Serve) -> None:
    started = Signal()

    async def handler(request: StreamingRequest) -> Response:
        started.happen()
        return await echo(request)

    def client(wire: Wire) -> bytes:
        wire.send(request_bytes("PUT", "/x", "Content-Length: 10"))
        started.wait_in_thread()
        wire.send(b"first")
        assert wire.silent(0.05)
        wire.send(b"other")
        return wire.reply().body

    assert await serve_both(handler).talk(client) == b"PUT /x firstother"


@pytest_twisted.ensureDeferred
async def test_body_is_read_as_it_comes(serve_both: Serve) -> None:
    pieces: list[bytes] = []
    got = [Signal(), Signal(), Signal()]

    async def handler(request: StreamingRequest) -> Response:
        for signal in got:
            pieces.append(await request.body.read())
            signal.happen()
        return Response(200)

    def client(wire: Wire) -> None:
        wire.send(request_bytes("PUT", "/x", "Content-Length: 6"))
        for piece, signal in zip((b"ab", b"cd", b"ef"), got, strict=True):
            wire.send(piece)
            signal.wait_in_thread()
        assert wire.reply().status == 200

    await serve_both(handler).talk(client)
    assert pieces == [b"ab", b"cd", b"ef"]


@pytest_twisted.ensureDeferred
async def test_read_returns_at_least_what_was_wanted(serve: Serve) -> None:
    async def handler(request: StreamingRequest) -> Response:
        sizes = [len(await request.body.read(100_000)) for _ in range(4)]
        return Response(200, repr(sizes).encode())

    def client(wire: Wire) -> bytes:
        wire.ask("PUT", body=b"x" * 250_000)
        return wire.reply().body

    first, second, third, end = eval(await serve(handler).talk(client))  # noqa: S307
    assert first >= 100_000 and first + second + third == 250_000 and end == 0


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("last", [b"", b"x"])
async def test_handler_that_ends_with_the_last_byte(serve_both: Serve, last: bytes) -> None:
    """Whether or not it looks for the end of the body, it runs inside the parser."""

    async def handler(request: StreamingRequest) -> Response:
        body = await request.body.read(4)
        if last:
            body += await request.body.read()
        return Response(200, body)

    def client(wire: Wire) -> None:
        for _ in range(2):
            wire.send(request_bytes("PUT", "/x", f"Content-Length: {4 + len(last)}"))
            for byte in b"1234" + last:
                wire.send(bytes([byte]))
                time.sleep(0.002)
            assert wire.reply().body == b"1234" + last

    await serve_both(handler).talk(client)


# -- back-pressure --------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_client_waits_for_a_slow_reader(serve_both: Serve) -> None:
    read_on = Signal()

    async def handler(request: StreamingRequest) -> Response:
        await read_on.wait()
        return Response(200, b"%d" % (await _drained(request)))

    size = 32 << 20

    def client(wire: Wire) -> bytes:
        wire.send(request_bytes("PUT", "/x", f"Content-Length: {size}"))
        sent = _send_until_blocked(wire, size)
        assert sent < size
        read_on.happen()
        wire.send(bytes(size - sent))
        return wire.reply().body

    assert await serve_both(handler).talk(client) == b"%d" % size


def _is_full(serving: Serving) -> bool:
    """Tell whether no more of the body is taken, or there is no more of it."""
    bodies = [request.body for one in serving.site.channels for request in one.requests]
    return any(body.complete or body._paused for body in bodies)


async def _drained(request: StreamingRequest) -> int:
    total = 0
    while piece := await request.body.read():
        total += len(piece)
    return total


def _send_until_blocked(wire: Wire, size: int) -> int:
    """Send zeros until the connection takes no more; return how many it took."""
    sent, block = 0, bytes(1 << 14)
    wire.socket.settimeout(0.3)
    while sent < size:
        try:
            sent += wire.socket.send(block)
        except TimeoutError:
            break
    wire.socket.settimeout(TIMEOUT)
    return sent


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("form", ["length", "chunked"])
async def test_memory_stays_at_the_window(serve: Serve, form: str) -> None:
    window, size = 1 << 20, 200 << 20
    peak = 0

    async def handler(request: StreamingRequest) -> Response:
        nonlocal peak
        total = 0
        async for block in request.body.blocks(window // 4, lambda: window):
            total += len(block)
            peak = max(peak, request.body._buffered)
            if total % 16 == 0:
                await pause(0)
        return Response(200, b"%d" % total)

    def client(wire: Wire) -> bytes:
        block = bytes(1 << 20)
        if form == "length":
            wire.send(request_bytes("PUT", "/x", f"Content-Length: {size}"))
        else:
            wire.send(request_bytes("PUT", "/x", "Transfer-Encoding: chunked"))
            block = chunked(block).removesuffix(LAST_CHUNK)
        for _ in range(size >> 20):
            wire.send(block)
        if form == "chunked":
            wire.send(LAST_CHUNK)
        return wire.reply().body

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert await serve(handler).talk(client) == b"%d" % size
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert peak <= window + READ_SIZE
    assert grown < 32 << 10  # KiB


@pytest_twisted.ensureDeferred
async def test_tiny_chunks_are_joined(serve: Serve) -> None:
    """A piece of two bytes would cost forty while it waits."""
    waiting = 0
    all_in = Signal()

    async def handler(request: StreamingRequest) -> Response:
        nonlocal waiting
        await all_in.wait()
        waiting = len(request.body._pieces)
        return await echo(request)

    def client(wire: Wire) -> bytes:
        wire.send(request_bytes("PUT", "/x", "Transfer-Encoding: chunked"))
        wire.send(b"2\r\nab\r\n" * 4_000 + b"0\r\n\r\n")
        time.sleep(0.1)
        all_in.happen()
        return wire.reply().body

    assert await serve(handler).talk(client) == b"PUT /x " + b"ab" * 4_000
    assert waiting <= 8_000 // 4096 + 1


@pytest_twisted.ensureDeferred
async def test_reading_more_than_the_window_at_once(serve: Serve) -> None:
    async def handler(request: StreamingRequest) -> Response:
        return Response(200, b"%d" % len(await request.body.read(1 << 20)))

    def client(wire: Wire) -> bytes:
        wire.ask("PUT", body=bytes(1 << 20))
        return wire.reply().body

    assert await serve(handler).talk(client) == b"1048576"


# -- 100 Continue ---------------------------------------------------------------------------------

EXPECT = "Expect: 100-continue"


@pytest_twisted.ensureDeferred
async def test_continue_is_sent_with_the_first_read(serve_both: Serve) -> None:
    read_on = Signal()

    async def handler(request: StreamingRequest) -> Response:
        await read_on.wait()
        return await echo(request)

    def client(wire: Wire) -> bytes:
        wire.send(request_bytes("PUT", "/x", EXPECT, "Content-Length: 4"))
        assert wire.silent()
        read_on.happen()
        assert wire.head() == b"HTTP/1.1 100 Continue"
        wire.send(b"body")
        body = wire.reply().body
        wire.ask("GET")
        assert wire.reply().status == 200
        return body

    assert await serve_both(handler).talk(client) == b"PUT /x body"


@pytest_twisted.ensureDeferred
async def test_early_answer_instead_of_continue(serve_both: Serve) -> None:
    async def handler(_: StreamingRequest) -> Response:
        return Response(409, b"no")

    def client(wire: Wire) -> None:
        wire.send(request_bytes("PUT", "/x", EXPECT, "Content-Length: 4"))
        reply = wire.reply()
        assert (reply.status, reply.body, reply.headers["connection"]) == (409, b"no", "close")
        assert wire.ends()

    serving = serve_both(handler, linger_idle=LONG)
    await serving.talk(client)
    await serving.quiet()


@pytest_twisted.ensureDeferred
async def test_client_that_does_not_wait_for_continue(serve_both: Serve) -> None:
    async def handler(_: StreamingRequest) -> Response:
        return Response(409, b"no")

    def client(wire: Wire) -> None:
        wire.send(request_bytes("PUT", "/x", EXPECT, "Content-Length: 20000000"))
        wire.send(bytes(20_000_000))
        assert wire.reply().body == b"no"

    await serve_both(handler).talk(client)


@pytest_twisted.ensureDeferred
async def test_http_1_0_gets_no_continue(serve: Serve) -> None:
    def client(wire: Wire) -> bytes:
        head = request_bytes("PUT", "/x", EXPECT, "Content-Length: 4")
        wire.send(head.replace(b"HTTP/1.1", b"HTTP/1.0"))
        assert wire.silent()
        wire.send(b"body")
        return wire.until_end()

    assert (await serve(echo).talk(client)).endswith(b"\r\n\r\nPUT /x body")


@pytest_twisted.ensureDeferred
async def test_no_continue_amid_an_answer(serve: Serve) -> None:
    async def handler(request: StreamingRequest) -> None:
        request.setHeader("content-length", "4")
        request.write(b"ab")
        await request.body.read()
        request.write(b"cd")
        request.finish()

    def client(wire: Wire) -> bytes:
        wire.send(request_bytes("PUT", "/x", EXPECT, "Content-Length: 4") + b"body")
        return wire.reply().body

    assert await serve(handler).talk(client) == b"abcd"


@pytest_twisted.ensureDeferred
async def test_client_may_wait_long_for_continue(serve: Serve) -> None:
    started, read_on = Signal(), Signal()

    async def handler(request: StreamingRequest) -> Response:
        started.happen()
        await read_on.wait()
        return await echo(request)

    serving = serve(handler, clock=StoppedClock(), idle_timeout=10)

    def client(wire: Wire) -> bytes:
        wire.send(request_bytes("PUT", "/x", EXPECT, "Content-Length: 4"))
        started.wait_in_thread()
        serving.passes(60)
        read_on.happen()
        assert wire.head() == b"HTTP/1.1 100 Continue"
        wire.send(b"body")
        return wire.reply().body

    assert await serving.talk(client) == b"PUT /x body"


# -- chunked bodies -------------------------------------------------------------------------------

CHUNKED = request_bytes("PUT", "/x", "Transfer-Encoding: chunked")


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (chunked(b"one", b"two"), b"onetwo"),
        (chunked(), b""),
        (b'3;name=value;other="x"\r\none\r\n0\r\n\r\n', b"one"),
        (b"3\r\none\r\n0\r\nTrailer: x\r\nOther: y\r\n\r\n", b"one"),
        (b"0003\r\none\r\n000\r\n\r\n", b"one"),
        (b"A\r\n0123456789\r\n0\r\n\r\n", b"0123456789"),
    ],
    ids=["plain", "empty", "extensions", "trailers", "zeros", "hexadecimal"],
)
async def test_chunked_body(serve: Serve, body: bytes, expected: bytes) -> None:
    def client(wire: Wire) -> None:
        for _ in range(2):
            wire.send(CHUNKED + body)
            assert wire.reply().body == b"PUT /x " + expected

    await serve(echo).talk(client)


MALFORMED = {
    "no number": b"zz\r\nabc\r\n0\r\n\r\n",
    "negative": b"-3\r\nabc\r\n0\r\n\r\n",
    "prefix": b"0x3\r\nabc\r\n0\r\n\r\n",
    "sign": b"+3\r\nabc\r\n0\r\n\r\n",
    "blank": b" 3\r\nabc\r\n0\r\n\r\n",
    "no end of chunk": b"3\r\nabcdef\r\n0\r\n\r\n",
    "endless line": b"3;" + b"x" * 2000,
    "endless trailer": b"0\r\n" + b"x: y\r\n" * 20_000,
    "control character": b"3;\x01\r\nabc\r\n0\r\n\r\n",
}


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("kind", MALFORMED)
async def test_malformed_chunks(serve_both: Serve, kind: str) -> None:
    seen: list[str] = []

    async def handler(request: StreamingRequest) -> Response:
        try:
            return await echo(request)
        except BodyAborted as error:
            seen.append(error.message)
            raise

    def client(wire: Wire) -> None:
        wire.send(CHUNKED + chunked(b"good")[:-5])
        wire.send(MALFORMED[kind])
        reply = wire.reply()
        assert (reply.status, reply.headers["connection"]) == (400, "close")
        assert wire.ends()

    await serve_both(handler).talk(client)
    assert len(seen) == 1 and "malformed" in seen[0]


@pytest_twisted.ensureDeferred
async def test_answer_to_malformed_chunks_survives_what_follows(serve_both: Serve) -> None:
    def client(wire: Wire) -> None:
        wire.send(CHUNKED + b"zz\r\n")
        wire.send(bytes(20_000_000))
        assert wire.reply().status == 400

    serving = serve_both(echo)
    await serving.talk(client)
    await serving.quiet()


@pytest_twisted.ensureDeferred
async def test_malformed_chunks_after_an_early_answer(serve_both: Serve) -> None:
    async def handler(_: StreamingRequest) -> Response:
        return Response(409, b"no")

    def client(wire: Wire) -> None:
        wire.send(CHUNKED)
        assert wire.reply().status == 409
        wire.send(b"zz\r\n")
        assert wire.ends()

    serving = serve_both(handler)
    await serving.talk(client)
    await serving.quiet()


@pytest_twisted.ensureDeferred
async def test_handler_may_be_slow_after_the_body(serve: Serve) -> None:
    """Also when the last piece of the body was one too many for the window."""

    read_on = Signal()

    async def handler(request: StreamingRequest) -> Response:
        await read_on.wait()
        return Response(200, b"%d" % await _drained(request))

    serving = serve(handler, clock=StoppedClock(), idle_timeout=10)

    def client(wire: Wire) -> bytes:
        with ThreadPoolExecutor(1) as threads:
            sending = threads.submit(wire.ask, "PUT", body=bytes(100_000))
            until_in_thread(lambda: _is_full(serving))
            serving.passes(60)
            read_on.happen()
            sending.result()
        return wire.reply().body

    assert await serving.talk(client) == b"100000"


@pytest_twisted.ensureDeferred
async def test_paused_client_is_not_late(serve: Serve) -> None:
    read_on = Signal()

    async def handler(request: StreamingRequest) -> Response:
        await read_on.wait()
        return Response(200, b"%d" % await _drained(request))

    serving = serve(handler, clock=StoppedClock(), idle_timeout=10)

    def client(wire: Wire) -> bytes:
        with ThreadPoolExecutor(1) as threads:
            sending = threads.submit(wire.ask, "PUT", body=bytes(8_000_000))
            until_in_thread(lambda: _is_full(serving))
            serving.passes(60)
            read_on.happen()
            sending.result()
        return wire.reply().body

    assert await serving.talk(client) == b"8000000"


@pytest_twisted.ensureDeferred
async def test_connections_are_counted(serve: Serve) -> None:
    serving = serve(echo)

    def client(wire: Wire) -> int:
        wire.ask("GET")
        wire.reply()
        with serving.open() as other:
            other.ask("GET")
            other.reply()
            return in_reactor(lambda: len(serving.site.channels))

    assert await serving.talk(client) == 2
    await serving.quiet()
