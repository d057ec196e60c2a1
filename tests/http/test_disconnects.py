"""Clients that go away: the handler learns it, and nothing stays behind."""

import time
from collections.abc import Callable

import pytest
import pytest_twisted

from imgservice.domain.errors import BodyAborted
from imgservice.http.request import StreamingRequest
from imgservice.http.response import Response
from tests.http.serving import (
    Serving,
    Signal,
    StoppedClock,
    Wire,
    echo,
    in_reactor,
    pause,
    request_bytes,
    until,
)

Serve = Callable[..., Serving]
PUT = request_bytes("PUT", "/x", "Content-Length: 1000000")
CHUNKED = request_bytes("PUT", "/x", "Transfer-Encoding: chunked")
LEAVING = ["close", "reset"]


def _leave(wire: Wire, how: str) -> None:
    if how == "reset":
        wire.reset()
    else:
        wire.close()


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("how", LEAVING)
@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GE",
        b"GET /x HTTP/1.1\r\n",
        b"GET /x HTTP/1.1\r\nHost: h\r\nX",
        request_bytes("GET")[:-2],
    ],
    ids=["nothing", "half a line", "a line", "half a header", "no blank line"],
)
async def test_before_the_end_of_the_headers(serve_both: Serve, sent: bytes, how: str) -> None:
    serving = serve_both(echo)

    def client(wire: Wire) -> None:
        if sent:
            wire.send(sent)
            time.sleep(0.02)
        _leave(wire, how)

    await serving.talk(client)
    await serving.quiet()
    assert serving.site.logged == []


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("how", LEAVING)
@pytest.mark.parametrize(
    "sent",
    [PUT, PUT + b"some", CHUNKED, CHUNKED + b"4\r\nso", CHUNKED + b"4\r\nsome\r\n0\r\n"],
    ids=["no byte", "some bytes", "no chunk", "half a chunk", "no end"],
)
async def test_in_the_body(serve_both: Serve, sent: bytes, how: str) -> None:
    ended: list[Exception] = []
    started = Signal()

    async def handler(request: StreamingRequest) -> Response:
        started.happen()
        try:
            return await echo(request)
        except BodyAborted as error:
            ended.append(error)
            raise

    serving = serve_both(handler)

    def client(wire: Wire) -> None:
        wire.send(sent)
        started.wait_in_thread()
        _leave(wire, how)

    await serving.talk(client)
    await serving.quiet()
    assert len(ended) == 1
    assert [request.aborted for request in serving.site.logged] == [True]


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("how", LEAVING)
async def test_while_the_body_is_paused(serve_both: Serve, how: str) -> None:
    """Nobody looks at the socket then; the next read notices."""
    ended: list[Exception] = []
    gone = Signal()

    async def handler(request: StreamingRequest) -> Response:
        await gone.wait()
        try:
            return await echo(request)
        except BodyAborted as error:
            ended.append(error)
            raise

    serving = serve_both(handler)

    def client(wire: Wire) -> None:
        wire.send(PUT + bytes(500_000))
        time.sleep(0.05)
        _leave(wire, how)
        gone.happen()

    await serving.talk(client)
    await serving.quiet()
    assert len(ended) == 1


@pytest_twisted.ensureDeferred
async def test_while_waiting_for_continue(serve_both: Serve) -> None:
    ended: list[Exception] = []
    gone = Signal()

    async def handler(request: StreamingRequest) -> Response:
        await gone.wait()
        await until(lambda: request.disconnected)
        try:
            return await echo(request)
        except BodyAborted as error:
            ended.append(error)
            raise

    serving = serve_both(handler)

    def client(wire: Wire) -> None:
        wire.send(request_bytes("PUT", "/x", "Expect: 100-continue", "Content-Length: 4"))
        wire.close()
        gone.happen()

    await serving.talk(client)
    await serving.quiet()
    assert len(ended) == 1


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("body", [b"", b"whole", bytes(200_000)], ids=["none", "short", "long"])
async def test_while_the_handler_works(serve_both: Serve, body: bytes) -> None:
    """The handler is not interrupted, it runs to its end."""
    started, ended = Signal(), Signal()

    async def handler(request: StreamingRequest) -> Response:
        answer = await echo(request)
        started.happen()
        await until(lambda: request.disconnected)
        await pause(0.01)
        ended.happen()
        return answer

    serving = serve_both(handler)

    def client(wire: Wire) -> None:
        wire.ask("PUT", body=body)
        started.wait_in_thread()

    await serving.talk(client)
    await ended.wait()
    await serving.quiet()
    assert [request.aborted for request in serving.site.logged] == [True]


@pytest_twisted.ensureDeferred
async def test_while_the_handler_works_with_more_requests_waiting(serve: Serve) -> None:
    started = Signal()
    paths: list[bytes] = []

    async def handler(request: StreamingRequest) -> Response:
        paths.append(request.path)
        started.happen()
        await until(lambda: request.disconnected)
        return Response(200)

    serving = serve(handler)

    def client(wire: Wire) -> None:
        wire.send(request_bytes("GET", "/a") + request_bytes("GET", "/b"))
        started.wait_in_thread()

    await serving.talk(client)
    await serving.quiet()
    assert paths == [b"/a"]


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("how", LEAVING)
async def test_between_requests(serve_both: Serve, how: str) -> None:
    serving = serve_both(echo)

    def client(wire: Wire) -> None:
        wire.ask("PUT", body=b"body")
        wire.reply()
        _leave(wire, how)

    await serving.talk(client)
    await serving.quiet()
    assert [request.aborted for request in serving.site.logged] == [False]


@pytest_twisted.ensureDeferred
async def test_client_that_stops_amid_its_body_is_cut(serve_both: Serve) -> None:
    ended: list[Exception] = []
    started = Signal()

    async def handler(request: StreamingRequest) -> Response:
        started.happen()
        try:
            return await echo(request)
        except BodyAborted as error:
            ended.append(error)
            raise

    serving = serve_both(handler, clock=StoppedClock(), idle_timeout=10)

    def client(wire: Wire) -> None:
        wire.send(PUT + b"some")
        started.wait_in_thread()
        serving.until_left()

    await serving.talk(client)
    await serving.quiet()
    assert len(ended) == 1


@pytest_twisted.ensureDeferred
async def test_site_aborts_everything(serve_both: Serve) -> None:
    ended: list[Exception] = []
    started = Signal()

    async def handler(request: StreamingRequest) -> Response:
        started.happen()
        try:
            return await echo(request)
        except BodyAborted as error:
            ended.append(error)
            raise

    serving = serve_both(handler)

    def client(wire: Wire) -> None:
        wire.send(PUT + b"some")
        started.wait_in_thread()
        in_reactor(serving.site.abort)
        with pytest.raises(ConnectionError):
            raise ConnectionError if wire.ends() else AssertionError

    await serving.talk(client)
    await serving.quiet()
    assert len(ended) == 1
