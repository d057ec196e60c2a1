"""Bytes that are cheap to send and dear to read: there is an end to each kind, and to its turn."""

import time
from collections.abc import Callable
from itertools import count

import pytest
import pytest_twisted

from imgservice.http.channel import PIPELINED_AT_ONCE, READ_SIZE, StreamingChannel
from imgservice.http.request import SMALL_CHUNK, SMALL_CHUNKS, StreamingRequest
from imgservice.http.response import Response
from tests.http.serving import (
    Serving,
    Signal,
    Wire,
    chunked,
    echo,
    in_reactor,
    reactor,
    request_bytes,
)

Serve = Callable[..., Serving]
CHUNKED = request_bytes("PUT", "/x", "Transfer-Encoding: chunked")
EAGER = 0x4000
"""Bytes of further requests that Twisted reads before it stops reading."""


def send_until_refused(wire: Wire, data: bytes) -> bytes:
    """Send as much as is taken, and return all that comes."""
    wire.socket.settimeout(60)
    try:
        wire.send(data)
        return wire.until_end()
    except OSError:
        return b""


async def length(request: StreamingRequest) -> Response:
    """A handler that reads the body and keeps nothing of it."""
    total = 0
    while piece := await request.body.read():
        total += len(piece)
    return Response(200, b"%d" % total)


# -- before a request -----------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("before", [b"", request_bytes("GET", "/x")])
async def test_blank_lines(serve_both: Serve, before: bytes) -> None:
    """One is forgiven before a request line; Twisted takes the next for the line itself."""
    serving = serve_both(echo)

    def client(wire: Wire) -> bytes:
        if before:
            wire.send(before)
            wire.reply()
        return send_until_refused(wire, b"\r\n" * 100_000)

    assert (await serving.talk(client)).partition(b"\r\n")[0] in (b"HTTP/1.1 400 Bad Request", b"")
    await serving.quiet()
    assert {one.code for one in serving.site.logged} == ({200, 400} if before else {400})


# -- chunks ---------------------------------------------------------------------------------------


async def _received(serving: Serving, body: bytes) -> tuple[bytes, int]:
    """Send a chunked body; return the beginning of what comes, and how much was decoded."""
    answer = await serving.talk(lambda wire: send_until_refused(wire, CHUNKED + body))
    await serving.quiet()
    [request] = serving.site.logged
    return answer[:12], request.body.received


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("before", [b"", chunked(bytes(1 << 20))[:-5]])
@pytest.mark.parametrize("chunk", [b"1\r\nx\r\n", b"2\r\nxy\r\n", b"a\r\n0123456789\r\n"])
async def test_tiny_chunks(serve_both: Serve, chunk: bytes, before: bytes) -> None:
    answer, received = await _received(serve_both(length), before + chunk * 100_000)
    assert answer in (b"HTTP/1.1 400", b"")
    size = int(chunk[:1], 16)
    most = SMALL_CHUNKS * SMALL_CHUNK // (SMALL_CHUNK - size) + 1
    assert received - (1 << 20) * bool(before) <= size * most


@pytest_twisted.ensureDeferred
async def test_tiny_chunks_that_nobody_reads(serve_both: Serve) -> None:
    async def handler(_: StreamingRequest) -> Response:
        return Response(409, b"no")

    answer, received = await _received(serve_both(handler), b"1\r\nx\r\n" * 100_000)
    assert answer in (b"HTTP/1.1 409", b"") and received <= 2 * SMALL_CHUNKS


@pytest_twisted.ensureDeferred
async def test_chunks_with_more_extension_than_data(serve: Serve) -> None:
    """Twisted bounds each; together they are bounded as tiny chunks are."""
    chunk = b"1;" + b"x" * 1000 + b"\r\nx\r\n"
    answer, received = await _received(serve(echo), chunk * 10_000)
    assert answer in (b"HTTP/1.1 400", b"") and received <= 2 * SMALL_CHUNKS


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("line", [b"a\r\n", b"a: b\r\n", b"a: " + b"b" * 6_000 + b"\r\n"])
async def test_trailers_have_an_end(serve: Serve, line: bytes) -> None:
    body = b"1\r\nx\r\n0;x=y\r\n" + line * (1_000_000 // len(line))
    assert (await _received(serve(echo), body))[0] in (b"HTTP/1.1 400", b"")


@pytest_twisted.ensureDeferred
async def test_small_chunks_of_somebody_in_earnest(serve: Serve) -> None:
    """Lines of text, say, of which some are short."""
    pieces = [b"x" * 100, b"y", b"z" * 200] * 10_000

    def client(wire: Wire) -> bytes:
        wire.send(CHUNKED + chunked(*pieces))
        return wire.reply().body

    assert await serve(length).talk(client) == b"3010000"


# -- pipelined requests ---------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_one_connection_has_its_turn_and_no_more(serve_both: Serve) -> None:
    in_this_turn, most, total = 0, 0, 3000

    def begin_turn() -> None:
        nonlocal in_this_turn
        in_this_turn = 0

    async def handler(_: StreamingRequest) -> Response:
        nonlocal in_this_turn, most
        if not in_this_turn:
            reactor.callLater(0, begin_turn)
        in_this_turn += 1
        most = max(most, in_this_turn)
        return Response(200, b"")

    def client(wire: Wire) -> None:
        wire.send(request_bytes("GET") * total)
        for _ in range(total):
            assert wire.reply().status == 200
        wire.ask("GET", "/last")
        assert wire.reply().status == 200

    await serve_both(handler).talk(client)
    assert most <= 2 * PIPELINED_AT_ONCE


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("body", [b"", b"body"])
async def test_order_is_kept(serve_both: Serve, body: bytes) -> None:
    def client(wire: Wire) -> None:
        numbers = range(5 * PIPELINED_AT_ONCE)
        wire.send(b"".join(request_bytes("PUT", f"/{one}", body=body) for one in numbers))
        for one in numbers:
            assert wire.reply().body == b"PUT /%d %s" % (one, body)

    await serve_both(echo).talk(client)


@pytest_twisted.ensureDeferred
async def test_few_bytes_wait_behind_a_request(serve_both: Serve) -> None:
    """One request is under way, whatever is sent behind it."""
    numbers, started, go_on = count(), Signal(), Signal()

    async def handler(_: StreamingRequest) -> Response:
        next(numbers)
        started.happen()
        await go_on.wait()
        return Response(200, b"")

    serving = serve_both(handler)

    def waiting() -> int:
        [channel] = serving.site.channels
        assert isinstance(channel, StreamingChannel) and len(channel.requests) <= 1
        return sum(map(len, channel._dataBuffer)) + len(channel._buffer)

    def client(wire: Wire) -> None:
        wire.socket.settimeout(1)
        with pytest.raises(TimeoutError):
            wire.send(request_bytes("GET") * 1_000_000)
        started.wait_in_thread()
        assert in_reactor(waiting) <= EAGER + READ_SIZE
        assert next(numbers) == 1

    await serving.talk(client)
    go_on.happen()
    await serving.quiet()


HEADS: dict[str, Callable[[int], bytes]] = {
    "folded lines": lambda n: request_bytes("GET", "/x", "X: y", *[" "] * (n * 60)),
    "long folded lines": lambda n: request_bytes("GET", "/x", "X: y", *[" " + "y" * 60] * n),
    "header fields": lambda n: request_bytes("GET", "/x", *["X: y"] * (n // 6)),
    "cookies": lambda n: request_bytes("GET", "/x", *["Cookie: " + "a=;" * (n // 3)] * 15),
    "connection": lambda n: request_bytes("GET", "/x", *["Connection: " + "a," * (n * 2)] * 15),
    "slashes": lambda n: request_bytes("GET", "/" * (n * 15)),
    "escapes": lambda n: request_bytes("GET", "/" + "%20" * (n * 5)),
    "query": lambda n: request_bytes("GET", "/?" + "a=&" * (n * 5)),
    "ampersands": lambda n: request_bytes("GET", "/?" + "&" * (n * 15)),
    "chunk extensions": lambda n: (
        request_bytes("PUT", "/x", "Transfer-Encoding: chunked")
        + (b"100;" + b"a" * 500 + b"\r\n" + b"b" * 256 + b"\r\n") * n
        + b"0\r\n\r\n"
    ),
    "trailers": lambda n: (
        request_bytes("PUT", "/x", "Transfer-Encoding: chunked")
        + b"0\r\n" + b"a: b\r\n" * (n * 8) + b"\r\n"
    ),
}  # fmt: skip
LONGEST_HEAD, GROWTH, TRIES, NOTHING = 1000, 8, 5, 0.003


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("kind", HEADS)
async def test_cost_of_a_head_grows_with_its_length(serve: Serve, kind: str) -> None:
    """What is quadratic is 64 times as dear when it is 8 times as long."""
    serving = serve(echo)

    def cost(wire: Wire, length: int) -> float:
        data = HEADS[kind](length)
        start = time.process_time()
        wire.send(data)
        assert wire.reply().status in (200, 404)
        return time.process_time() - start

    def client(wire: Wire) -> bool:
        cost(wire, 1)
        for _ in range(TRIES):
            short = cost(wire, LONGEST_HEAD // GROWTH)
            if cost(wire, LONGEST_HEAD) <= 3 * GROWTH * max(short, NOTHING):
                return True
        return False

    assert await serving.talk(client)
