"""Keep-alive and pipelining, the ends of connections, and draining the site."""

import random
import time
from collections.abc import Callable
from itertools import pairwise

import pytest
import pytest_twisted
from hypothesis import given, settings
from hypothesis import strategies as st

from imgservice.http.request import StreamingRequest
from imgservice.http.response import Response, no_content
from tests.examples import SHARING, examples
from tests.http.serving import (
    Serving,
    Signal,
    Wire,
    chunked,
    echo,
    in_reactor,
    pause,
    request_bytes,
    until_in_thread,
)

Serve = Callable[..., Serving]
PUT_CHUNKED = request_bytes("PUT", "/c", "Transfer-Encoding: chunked")


async def slow_echo(request: StreamingRequest) -> Response:
    await pause(0.01)
    answer = await echo(request)
    await pause(0.01)
    return answer


async def lazy(_: StreamingRequest) -> Response:
    """Answer without a look at the body."""
    return Response(200, b"lazy")


# -- several requests on one connection -----------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_one_request_each_where_connections_are_not_kept(serve_both: Serve) -> None:
    def client(wire: Wire) -> tuple[str, bool]:
        wire.send(request_bytes("GET", "/a"))
        return wire.reply().headers["connection"], wire.ends()

    assert await serve_both(echo, keepalive=False).talk(client) == ("close", True)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("handler", [echo, slow_echo])
async def test_requests_in_one_segment(serve_both: Serve, handler: object) -> None:
    def client(wire: Wire) -> list[bytes]:
        wire.send(
            request_bytes("PUT", "/a", body=b"one")
            + request_bytes("GET", "/b")
            + PUT_CHUNKED
            + chunked(b"t", b"wo")
            + request_bytes("PUT", "/d", body=b"three")
        )
        return [wire.reply().body for _ in range(4)]

    expected = [b"PUT /a one", b"GET /b ", b"PUT /c two", b"PUT /d three"]
    assert await serve_both(handler).talk(client) == expected


@pytest_twisted.ensureDeferred
async def test_unread_bodies_in_one_segment(serve_both: Serve) -> None:
    def client(wire: Wire) -> None:
        wire.send(request_bytes("PUT", "/a", body=bytes(100_000)) * 3)
        for _ in range(3):
            assert wire.reply().body == b"lazy"

    await serve_both(lazy).talk(client)


@pytest_twisted.ensureDeferred
async def test_bodies_in_a_row(serve_both: Serve) -> None:
    """Larger than the window each, so that the connection is paused and resumed."""

    def client(wire: Wire) -> None:
        for number in range(3):
            body = bytes([65 + number]) * 300_000
            wire.ask("PUT", body=body)
            assert wire.reply().body == b"PUT /x " + body
            wire.send(PUT_CHUNKED + chunked(body, body))
            assert wire.reply().body == b"PUT /c " + body + body

    await serve_both(slow_echo).talk(client)


@pytest_twisted.ensureDeferred
async def test_request_byte_by_byte(serve: Serve) -> None:
    def client(wire: Wire) -> list[bytes]:
        data = request_bytes("PUT", "/a", body=b"body") + PUT_CHUNKED + chunked(b"o", b"ther")
        for byte in data:
            wire.send(bytes([byte]))
            time.sleep(0.0005)
        return [wire.reply().body for _ in range(2)]

    assert await serve(echo).talk(client) == [b"PUT /a body", b"PUT /c other"]


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("blank", [b"", b"\r\n"])
async def test_more_bytes_than_content_length(serve: Serve, blank: bytes) -> None:
    def client(wire: Wire) -> None:
        wire.send(request_bytes("PUT", "/a", "Content-Length: 3") + b"one" + blank)
        wire.ask("GET", "/b")
        assert wire.reply().body == b"PUT /a one"
        assert wire.reply().body == b"GET /b "

    await serve(echo).talk(client)


def _pipeline() -> list[bytes]:
    return [
        request_bytes("PUT", "/a", body=b"x" * 1000),
        request_bytes("GET", "/b"),
        PUT_CHUNKED + chunked(b"GET / HTTP/1.1\r\n\r\n", b"0\r\n\r\n", b"z" * 300),
        request_bytes("HEAD", "/d"),
        request_bytes("PUT", "/e", "Content-Length: 0"),
        request_bytes("POST", "/f", body=request_bytes("GET", "/inner")),
    ]


@pytest_twisted.ensureDeferred
@settings(
    max_examples=examples(25),
    deadline=None,
    database=None,
    suppress_health_check=SHARING,
)
@given(cuts=st.lists(st.integers(1, 1800), max_size=12), eager=st.booleans())
async def test_cuts_make_no_difference(serve: Serve, cuts: list[int], eager: bool) -> None:
    """However the network cuts a stream of requests, the answers are the same."""
    stream = b"".join(_pipeline())
    edges = sorted({0, *(cut for cut in cuts if cut < len(stream)), len(stream)})

    def client(wire: Wire) -> list[tuple[int, bytes]]:
        for start, end in pairwise(edges):
            wire.send(stream[start:end])
            time.sleep(0.002)
        methods = [one.split()[0].decode() for one in _pipeline()]
        return [(reply.status, reply.body) for reply in map(wire.reply, methods)]

    expected = [
        (200, b"PUT /a " + b"x" * 1000),
        (200, b"GET /b "),
        (200, b"PUT /c GET / HTTP/1.1\r\n\r\n0\r\n\r\n" + b"z" * 300),
        (200, b""),
        (200, b"PUT /e "),
        (200, b"POST /f " + request_bytes("GET", "/inner")),
    ]
    assert await serve(echo if eager else slow_echo).talk(client) == expected


@pytest_twisted.ensureDeferred
async def test_pipelined_requests_wait_for_a_client_that_reads(serve_both: Serve) -> None:
    """Answers that nobody takes do not pile up in memory."""
    handled = 0

    async def handler(_: StreamingRequest) -> Response:
        nonlocal handled
        handled += 1
        return Response(200, bytes(1 << 20))

    serving = serve_both(handler)

    def client(wire: Wire) -> None:
        wire.send(request_bytes("GET", "/a") * 200)
        time.sleep(0.5)
        assert handled < 30
        for _ in range(200):
            assert len(wire.reply().body) == 1 << 20

    await serving.talk(client)
    assert handled == 200


# -- what an answer looks like --------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_head_has_a_length_and_no_body(serve: Serve) -> None:
    async def handler(_: StreamingRequest) -> Response:
        return Response(200, b"12345")

    def client(wire: Wire) -> None:
        for _ in range(2):
            wire.ask("HEAD")
            assert wire.reply("HEAD").headers["content-length"] == "5"
            assert wire.silent(0.05)

    await serve(handler).talk(client)


@pytest_twisted.ensureDeferred
async def test_no_content_has_no_length(serve: Serve) -> None:
    async def handler(_: StreamingRequest) -> Response:
        return no_content()

    def client(wire: Wire) -> None:
        for _ in range(2):
            wire.ask("GET")
            headers = wire.reply().headers
            assert "content-length" not in headers and "transfer-encoding" not in headers
            assert wire.silent(0.05)

    await serve(handler).talk(client)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("header", ["close", "TE, close", "Close", "close, TE"])
async def test_client_wants_the_connection_closed(serve_both: Serve, header: str) -> None:
    def client(wire: Wire) -> None:
        wire.ask("PUT", "/x", f"Connection: {header}", body=b"body")
        reply = wire.reply()
        assert (reply.body, reply.headers["connection"]) == (b"PUT /x body", "close")
        assert wire.ends()

    serving = serve_both(echo)
    await serving.talk(client)
    await serving.quiet()


@pytest_twisted.ensureDeferred
async def test_a_large_last_answer_leaves_nothing_behind(serve_both: Serve) -> None:
    """While it waited to be sent nothing was read; the end of the client must be noticed."""
    body = bytes(16 << 20)

    async def large(_: StreamingRequest) -> Response:
        return Response(200, body)

    def client(wire: Wire) -> None:
        wire.ask("GET", "/x", "Connection: close")
        assert wire.reply().body == body
        assert wire.ends()

    serving = serve_both(large, linger_idle=600, linger_time=600)
    await serving.talk(client)
    await serving.quiet()


@pytest_twisted.ensureDeferred
async def test_alpn_offers_http_1_1_only(serve_both: Serve) -> None:
    serving = serve_both(echo)

    def client(wire: Wire) -> None:
        if serving.tls:
            assert wire.socket.selected_alpn_protocol() == "http/1.1"
        wire.ask("GET")
        assert wire.reply().status == 200

    await serving.talk(client, alpn=["h2", "http/1.1"])
    assert serving.site.acceptableProtocols() == [b"http/1.1"]


# -- drain ----------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_drain_closes_idle_connections(serve_both: Serve) -> None:
    serving = serve_both(echo)

    def client(wire: Wire) -> None:
        wire.ask("GET")
        wire.reply()
        with serving.open() as silent:
            until_in_thread(lambda: [one.is_idle for one in serving.site.channels] == [True] * 2)
            in_reactor(serving.site.drain)
            assert wire.ends()
            assert silent.ends()

    await serving.talk(client)
    await serving.quiet()


@pytest_twisted.ensureDeferred
async def test_drain_lets_requests_end(serve_both: Serve) -> None:
    started, go_on = Signal(), Signal()

    async def handler(request: StreamingRequest) -> Response:
        started.happen()
        await go_on.wait()
        return await echo(request)

    serving = serve_both(handler)

    def client(wire: Wire) -> None:
        wire.send(request_bytes("PUT", "/x", "Content-Length: 4") + b"bo")
        started.wait_in_thread()
        in_reactor(serving.site.drain)
        go_on.happen()
        wire.send(b"dy")
        reply = wire.reply()
        assert (reply.body, reply.headers["connection"]) == (b"PUT /x body", "close")
        assert wire.ends()

    await serving.talk(client)
    await serving.quiet()


@pytest_twisted.ensureDeferred
async def test_drain_while_an_answer_is_under_way(serve_both: Serve) -> None:
    started, go_on = Signal(), Signal()

    async def handler(request: StreamingRequest) -> None:
        request.setHeader("content-length", "4")
        request.write(b"ab")
        started.happen()
        await go_on.wait()
        request.write(b"cd")
        request.finish()

    serving = serve_both(handler)

    def client(wire: Wire) -> None:
        wire.ask("GET")
        started.wait_in_thread()
        in_reactor(serving.site.drain)
        go_on.happen()
        assert wire.reply().body == b"abcd"
        assert wire.ends()

    await serving.talk(client)
    await serving.quiet()


@pytest_twisted.ensureDeferred
async def test_drain_lets_a_begun_request_come_in(serve: Serve) -> None:
    serving = serve(echo)

    def client(wire: Wire) -> None:
        wire.ask("GET", "/a")
        wire.send(b"GET /b HT")
        assert wire.reply().body == b"GET /a "
        (channel,) = serving.site.channels
        until_in_thread(lambda: not channel.requests and not channel.is_idle)  # the other has begun
        in_reactor(serving.site.drain)
        wire.send(b"TP/1.1\r\nHost: here\r\n\r\n")
        assert wire.reply().body == b"GET /b "
        assert wire.ends()

    await serving.talk(client)


@pytest_twisted.ensureDeferred
async def test_many_connections_at_once(serve: Serve) -> None:
    serving = serve(slow_echo)

    def client(wire: Wire) -> None:
        others = [serving.open() for _ in range(40)]
        bodies = [random.randbytes(50_000) for _ in others]
        for other, body in zip(others, bodies, strict=True):
            other.ask("PUT", body=body)
        for other, body in zip(others, bodies, strict=True):
            assert other.reply().body == b"PUT /x " + body
            other.close()
        wire.ask("GET")
        assert wire.reply().status == 200

    await serving.talk(client)
    await serving.quiet()
