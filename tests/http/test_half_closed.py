"""Clients that shut their side down after their request, and wait for the answer."""

import socket
from collections.abc import Callable

import pytest
import pytest_twisted

from imgservice.http.request import StreamingRequest
from imgservice.http.response import Response
from tests.http.serving import (
    Reply,
    Serving,
    Signal,
    Wire,
    echo,
    request_bytes,
    until,
)

Serve = Callable[..., Serving]
OLD = b"GET /x HTTP/1.0\r\nHost: h\r\n\r\n"
CHUNKED = request_bytes("PUT", "/x", "Transfer-Encoding: chunked") + b"4\r\nsome\r\n0\r\n\r\n"
LONG = bytes(8 << 20)


def send_all(wire: Wire, data: bytes) -> None:
    """Send, and say that no more will come."""
    wire.send(data)
    wire.socket.shutdown(socket.SHUT_WR)


def answer(wire: Wire) -> Reply:
    """Return the next answer; where the machine is slow, a probe may come before it."""
    while (reply := wire.reply()).status == 100:
        pass
    return reply


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("sent", "body"),
    [
        (request_bytes("GET", "/x"), b"GET /x "),
        (request_bytes("PUT", "/x", body=b"some"), b"PUT /x some"),
        (request_bytes("PUT", "/x", body=bytes(500_000)), b"PUT /x " + bytes(500_000)),
        (CHUNKED, b"PUT /x some"),
        (OLD, b"GET /x "),
    ],
    ids=["no body", "short", "long", "chunked", "HTTP/1.0"],
)
async def test_a_whole_request_is_answered(serve: Serve, sent: bytes, body: bytes) -> None:
    serving = serve(echo)

    def client(wire: Wire) -> None:
        send_all(wire, sent)
        reply = answer(wire)
        assert (reply.status, reply.body) == (200, body)
        assert wire.ends()

    await serving.talk(client)
    await serving.quiet()
    assert [request.aborted for request in serving.site.logged] == [False]


@pytest_twisted.ensureDeferred
async def test_a_long_answer_comes_whole(serve: Serve) -> None:
    async def handler(request: StreamingRequest) -> Response:
        return Response(200, LONG)

    serving = serve(handler)

    def client(wire: Wire) -> None:
        send_all(wire, request_bytes("GET", "/x"))
        assert answer(wire).body == LONG
        assert wire.ends()

    await serving.talk(client, receive_buffer=65536)
    await serving.quiet()


@pytest_twisted.ensureDeferred
async def test_one_that_waits_is_sent_no_more_than_a_100(serve: Serve) -> None:
    probed = Signal()

    async def handler(request: StreamingRequest) -> Response:
        await probed.wait()
        return await echo(request)

    serving = serve(handler)

    def client(wire: Wire) -> None:
        send_all(wire, request_bytes("PUT", "/x", body=b"some"))
        assert wire.head() == b"HTTP/1.1 100 Continue"
        probed.happen()
        reply = answer(wire)
        assert (reply.status, reply.body, reply.headers["connection"]) == (
            200,
            b"PUT /x some",
            "close",
        )
        assert wire.ends()

    await serving.talk(client)
    await serving.quiet()


@pytest_twisted.ensureDeferred
async def test_all_requests_that_came_are_answered(serve: Serve) -> None:
    serving = serve(echo)
    bodies = [b"%d" % number for number in range(40)]  # more than are answered in one turn

    def client(wire: Wire) -> None:
        send_all(wire, b"".join(request_bytes("PUT", "/x", body=body) for body in bodies))
        replies = [answer(wire) for _ in bodies]
        assert [reply.body for reply in replies] == [b"PUT /x " + body for body in bodies]
        assert wire.ends()

    await serving.talk(client)
    await serving.quiet()
    assert [request.aborted for request in serving.site.logged] == [False] * len(bodies)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    "rest",
    [b"GE", b"GET /x HTTP/1.1\r\nHo", request_bytes("PUT", "/x", "Content-Length: 9") + b"som"],
    ids=["line", "headers", "body"],
)
async def test_a_request_that_broke_off_does_not_spoil_the_one_before(
    serve: Serve, rest: bytes
) -> None:
    serving = serve(echo)

    def client(wire: Wire) -> None:
        send_all(wire, request_bytes("PUT", "/x", body=b"whole") + rest)
        assert answer(wire).body == b"PUT /x whole"
        assert wire.until_end() == b""

    await serving.talk(client)
    await serving.quiet()


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET /x HTTP/1.1\r\nHo",
        request_bytes("PUT", "/x", "Content-Length: 1000") + b"some",
        request_bytes("PUT", "/x", "Transfer-Encoding: chunked") + b"4\r\nsome\r\n",
    ],
    ids=["nothing", "headers", "body", "chunks"],
)
async def test_a_request_that_is_not_whole_never_will_be(serve: Serve, sent: bytes) -> None:
    serving = serve(echo)

    def client(wire: Wire) -> None:
        send_all(wire, sent)
        assert wire.until_end() == b""

    await serving.talk(client)
    await serving.quiet()


@pytest_twisted.ensureDeferred
async def test_a_refusal_arrives(serve: Serve) -> None:
    serving = serve(echo)

    def client(wire: Wire) -> None:
        send_all(wire, b"no request at all\r\n\r\n")
        assert answer(wire).status == 400
        assert wire.ends()

    for _ in range(20):  # it is a matter of which event the reactor sees first
        await serving.talk(client)
    await serving.quiet()


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("sent", [OLD, request_bytes("GET", "/x")], ids=["1.0", "1.1"])
async def test_one_that_leaves_after_all_is_noticed(serve: Serve, sent: bytes) -> None:
    started = Signal()

    async def handler(request: StreamingRequest) -> Response:
        started.happen()
        await until(lambda: request.disconnected)
        return Response(200)

    serving = serve(handler)

    def client(wire: Wire) -> None:
        send_all(wire, sent)
        started.wait_in_thread()
        wire.reset()

    await serving.talk(client)
    await serving.quiet()
    assert [request.aborted for request in serving.site.logged] == [True]
