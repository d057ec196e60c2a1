"""Request lines and headers that are wrong, too long, or dangerous to believe."""

import time
from collections.abc import Callable

import pytest
import pytest_twisted

from imgservice.api.middleware.version import VersionNegotiation
from imgservice.http.request import StreamingRequest
from imgservice.http.response import Response
from tests.http.serving import Serving, Signal, StoppedClock, Wire, echo, request_bytes

Serve = Callable[..., Serving]

REQUEST_LINES = {
    "HTTP/0.9": b"GET /x",
    "garbage": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "blanks": b"GET  /x  HTTP/1.1",
    "no version": b"GET /x HTTP",
    "HTTP/2": b"PRI * HTTP/2.0",
    "control characters": b"GET /\x01 HTTP/1.1",
    "method": b"G@T /x HTTP/1.1",
    "bytes in the method": b"G\xffT /x HTTP/1.1",
    "bytes in the path": b"GET /\xff HTTP/1.1",
}


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("kind", REQUEST_LINES)
async def test_bad_request_line(serve_both: Serve, kind: str) -> None:
    serving = serve_both(echo)

    def client(wire: Wire) -> None:
        wire.send(REQUEST_LINES[kind] + b"\r\nHost: here\r\n\r\n" + b"GET / HTTP/1.1\r\n\r\n")
        assert wire.reply().status == 400
        assert wire.ends()

    await serving.talk(client)
    await serving.quiet()


BAD_HEADERS = {
    "length and chunks": "Content-Length: 4\r\nTransfer-Encoding: chunked",
    "chunks and length": "Transfer-Encoding: chunked\r\nContent-Length: 4",
    "two lengths": "Content-Length: 4\r\nContent-Length: 5",
    "equal lengths": "Content-Length: 4\r\nContent-Length: 4",
    "list of lengths": "Content-Length: 4, 4",
    "negative length": "Content-Length: -4",
    "signed length": "Content-Length: +4",
    "hexadecimal length": "Content-Length: 0x4",
    "underscored length": "Content-Length: 1_0",
    "foreign digits": "Content-Length: \u00b2",
    "blank in length": "Content-Length: 4 4",
    "empty length": "Content-Length:",
    "folded length": "Content-Length: 1\r\n 4",
    "huge length": "Content-Length: " + "9" * 5000,
    "19 digits": "Content-Length: " + "9" * 19,
    "other coding": "Transfer-Encoding: gzip",
    "two codings": "Transfer-Encoding: gzip, chunked",
    "chunked twice": "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    "identity": "Transfer-Encoding: identity",
    "identity and length": "Transfer-Encoding: identity\r\nContent-Length: 4",
    "chunked and identity": "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
    "list of chunked": "Transfer-Encoding: chunked, chunked",
    "quoted coding": 'Transfer-Encoding: "chunked"',
    "coding with a parameter": "Transfer-Encoding: chunked;q=1",
    "no coding": "Transfer-Encoding:",
    "two hosts": "Host: here",
    "another host": "Host: elsewhere",
    "vertical tab": "Transfer-Encoding: \x0bchunked",
    "blank before colon": "Content-Length : 4",
    "no colon": "Content-Length 4",
    "no name": ": 4",
    "zero byte": "X: a\x00b",
    "line feed": "X: a\nContent-Length: 4",
    "carriage return": "X: a\rContent-Length: 4",
    "leading blank": " X: a",
}


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("kind", BAD_HEADERS)
async def test_bad_header(serve: Serve, kind: str) -> None:
    serving = serve(echo)

    def client(wire: Wire) -> None:
        header = "X-First: 1\r\n" * (kind != "leading blank") + BAD_HEADERS[kind]
        head = f"PUT /x HTTP/1.1\r\n{header}\r\nHost: here\r\n\r\n"
        wire.send(head.encode("latin-1") + b"body" + request_bytes("GET", "/smuggled"))
        reply = wire.reply()
        assert (reply.status, reply.headers["connection"]) == (400, "close")
        assert wire.ends()

    await serving.talk(client)
    await serving.quiet()
    assert [(one.code, one.aborted) for one in serving.site.logged] == [(400, False)]


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    "header", ["Content-Length:   4  ", "content-LENGTH:4", "CONTENT-LENGTH: 0004"]
)
async def test_good_content_length(serve: Serve, header: str) -> None:
    def client(wire: Wire) -> bytes:
        wire.send(request_bytes("PUT", "/x", header) + b"body")
        return wire.reply().body

    assert await serve(echo).talk(client) == b"PUT /x body"


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    "host",
    ["\xff", "a b", "[::1", "here:port", "h\x7f", "a/b", "a@b", "a?b", "::1", "[::1]x", "[]", "<a>",
      "a\\b", "a:123456", "[here]", "a:1:2", "http://a"],
)  # fmt: skip
async def test_odd_host(serve: Serve, host: str) -> None:
    data = f"GET /x HTTP/1.1\r\nHost: {host}\r\n\r\n".encode("latin-1")
    assert await _refused_with(serve(echo), data) == 400


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    "host",
    ["", "here", "here:", "here:80", "HERE.example.", "10.0.0.1:9292", "[::1]:9292", "a_b%20"],
)
async def test_good_host(serve: Serve, host: str) -> None:
    def client(wire: Wire) -> int:
        wire.send(f"GET /x HTTP/1.1\r\nHost:{host}\r\n\r\n".encode())
        return wire.reply().status

    assert await serve(echo).talk(client) == 200


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("headers", ["", "X: y\r\n", "Content-Length: 4\r\n", "X-Host: here\r\n"])
async def test_missing_host(serve_both: Serve, headers: str) -> None:
    """A body that comes along is not taken for a request either."""
    smuggled = request_bytes("GET", "/smuggled")
    data = f"PUT /x HTTP/1.1\r\n{headers}\r\nbody".encode() + smuggled
    serving = serve_both(echo)
    assert await _refused_with(serving, data) == 400
    assert [one.code for one in serving.site.logged] == [400]


@pytest_twisted.ensureDeferred
async def test_host_is_asked_for_in_every_request(serve: Serve) -> None:
    def client(wire: Wire) -> None:
        wire.send(request_bytes("GET", "/a") + b"GET /b HTTP/1.1\r\nX: y\r\n\r\n")
        assert [wire.reply().status, wire.reply().status] == [200, 400]
        assert wire.ends()

    await serve(echo).talk(client)


@pytest_twisted.ensureDeferred
async def test_old_clients_name_no_host(serve: Serve) -> None:
    def client(wire: Wire) -> int:
        wire.send(b"GET /x HTTP/1.0\r\n\r\n")
        return wire.reply().status

    assert await serve(echo).talk(client) == 200


@pytest_twisted.ensureDeferred
async def test_chunks_are_not_for_old_clients(serve: Serve) -> None:
    data = b"PUT /x HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    assert await _refused_with(serve(echo), data) == 400


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("coding", ["chunked", "Chunked", " \tCHUNKED  "])
async def test_good_transfer_encoding(serve: Serve, coding: str) -> None:
    def client(wire: Wire) -> bytes:
        wire.send(
            request_bytes("PUT", "/x", f"Transfer-Encoding:{coding}") + b"4\r\nbody\r\n0\r\n\r\n"
        )
        return wire.reply().body

    assert await serve(echo).talk(client) == b"PUT /x body"


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    "method", ["post", "Post", "get", "PROPFIND", "NONSENSE", "X", "PATCHES", "G" * 1000, "!"]
)
async def test_unknown_method(serve_both: Serve, method: str) -> None:
    """Methods have capitals: `post` is not POST, and must not be counted as something else."""
    serving = serve_both(echo)
    smuggled = request_bytes("GET", "/smuggled")
    data = request_bytes(method, "/x", "Content-Length: 4") + b"body" + smuggled
    assert await _refused_with(serving, data) == 501
    assert [one.code for one in serving.site.logged] == [501]


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    "target",
    ["*", "//", "/%", "/%ff", "/%00", "/a//b", "/?" + "&" * 5000, "/x?%ff=%zz", "http://h/x", "x"],
)
async def test_odd_target(serve: Serve, target: str) -> None:
    def client(wire: Wire) -> int:
        wire.ask("GET", target)
        return wire.reply().status

    assert await serve(echo, steps=[VersionNegotiation(None, None)]).talk(client) in (300, 400, 405)


# -- limits ---------------------------------------------------------------------------------------


async def _refused_with(serving: Serving, data: bytes) -> int:
    def client(wire: Wire) -> int:
        wire.send(data)
        reply = wire.reply()
        assert reply.headers["connection"] == "close"
        assert wire.ends()
        return reply.status

    status = await serving.talk(client)
    await serving.quiet()
    return status


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("length", [1001, 100_000, 5_000_000])
async def test_request_line_too_long(serve_both: Serve, length: int) -> None:
    serving = serve_both(echo, max_header_line=1000)
    assert await _refused_with(serving, request_bytes("GET", "/" + "x" * length)) == 414


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("length", [1001, 100_000, 5_000_000])
async def test_header_line_too_long(serve_both: Serve, length: int) -> None:
    serving = serve_both(echo, max_header_line=1000)
    assert await _refused_with(serving, request_bytes("GET", "/x", "X: " + "x" * length)) == 431


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("count", [11, 100_000])
async def test_too_many_headers(serve_both: Serve, count: int) -> None:
    serving = serve_both(echo, max_headers=10)
    assert await _refused_with(serving, request_bytes("GET", "/x", *["X: y"] * count)) == 431


@pytest_twisted.ensureDeferred
async def test_headers_too_large_together(serve_both: Serve) -> None:
    serving = serve_both(echo, max_headers_size=1000)
    assert await _refused_with(serving, request_bytes("GET", "/x", *["X: " + "y" * 90] * 12)) == 431


@pytest_twisted.ensureDeferred
async def test_folded_header_too_large(serve: Serve) -> None:
    serving = serve(echo, max_headers_size=1000)
    assert (
        await _refused_with(serving, request_bytes("GET", "/x", "X: y", *[" " + "y" * 90] * 12))
        == 431
    )


@pytest_twisted.ensureDeferred
async def test_header_limits_are_per_request(serve: Serve) -> None:
    def client(wire: Wire) -> None:
        for _ in range(5):
            wire.ask("PUT", "/x", *["X: " + "y" * 50] * 8, body=b"body")
            assert wire.reply().status == 200

    await serve(echo, max_headers=12, max_headers_size=1000).talk(client)


# -- time -----------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("requests", [0, 1])
async def test_idle_connection_is_closed(serve_both: Serve, requests: int) -> None:
    serving = serve_both(echo, clock=StoppedClock(), idle_timeout=10)

    def client(wire: Wire) -> None:
        for _ in range(requests):
            wire.ask("GET")
            wire.reply()
        serving.passes(9)
        assert wire.silent()
        serving.passes(11)  # the last look may have found that more of the answer was taken
        assert wire.ends()

    await serving.talk(client)
    await serving.quiet()


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("before", [b"", request_bytes("GET", "/x")])
async def test_headers_that_take_too_long(serve_both: Serve, before: bytes) -> None:
    clock = StoppedClock()
    serving = serve_both(echo, clock=clock, header_timeout=10, linger_time=20)

    def client(wire: Wire) -> None:
        if before:
            wire.send(before)
            wire.reply()
            wire.send(b"\r\n")
        with pytest.raises(OSError):
            for byte in request_bytes("GET", "/x", "X: " + "y" * 2000):
                wire.send(bytes([byte]))
                serving.passes(1)
        assert clock.now > 10

    await serving.talk(client)
    await serving.quiet()


@pytest_twisted.ensureDeferred
async def test_blank_line_is_not_the_beginning_of_headers(serve: Serve) -> None:
    serving = serve(echo, clock=StoppedClock(), header_timeout=10)

    def client(wire: Wire) -> None:
        wire.ask("GET")
        wire.reply()
        wire.send(b"\r\n")
        for _ in range(4):
            time.sleep(0.05)
            serving.passes(10)
        wire.ask("GET")
        assert wire.reply().status == 200

    await serving.talk(client)


@pytest_twisted.ensureDeferred
async def test_slow_body_is_not_late_headers(serve: Serve) -> None:
    started = Signal()

    async def handler(request: StreamingRequest) -> Response:
        started.happen()
        return await echo(request)

    serving = serve(handler, clock=StoppedClock(), header_timeout=10)

    def client(wire: Wire) -> None:
        wire.send(request_bytes("PUT", "/x", "Content-Length: 20"))
        started.wait_in_thread()
        for _ in range(20):
            wire.send(b"x")
            serving.passes(2)
        assert wire.reply().status == 200

    await serving.talk(client)


@pytest_twisted.ensureDeferred
async def test_client_that_never_says_goodbye(serve_both: Serve) -> None:
    """It answers neither a FIN nor a close_notify, and yet the connection goes."""
    serving = serve_both(echo, clock=StoppedClock(), idle_timeout=10, linger_idle=5)

    def client(wire: Wire) -> None:
        wire.ask("GET")
        wire.reply()
        serving.until_left()

    await serving.talk(client)
