"""Bodies of unknown length, of which a server that refuses them gets nothing, or no more."""

import socket
from collections.abc import AsyncGenerator, Callable
from contextlib import closing, suppress
from socket import create_server
from typing import Any, cast

import pytest
import pytest_twisted
from twisted.internet import reactor as installed_reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.threads import deferToThread

from imgservice.net.answers import Fetched
from imgservice.net.bodies import Body
from imgservice.net.client import ConfiguredClient
from imgservice.net.limits import FetchLimits
from imgservice.net.tls import tls_policy

reactor = cast(Any, installed_reactor)
GO_ON = b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n"
DONE = b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n"
REFUSED = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 4\r\n\r\nno!\n"


class Sending:
    """A body of so many MiB, and how many of them were asked for."""

    def __init__(self, mebibytes: int) -> None:
        self.asked = 0
        self._mebibytes = mebibytes

    async def blocks(self) -> AsyncGenerator[bytes, None]:
        for _ in range(self._mebibytes):
            self.asked += 1
            yield bytes(1 << 20)

    async def to(
        self, serve: Callable[[socket.socket], bytes], permission: float = 30
    ) -> tuple[Fetched, bytes]:
        """Send it to a server that does this in a thread; return its answer and the result."""
        limits = FetchLimits(connect=5, idle=20, permission=permission)
        client = ConfiguredClient(reactor, tls_policy(), limits, 1)

        def accept() -> bytes:
            with closing(listening.accept()[0]) as connection:
                return serve(connection)

        with closing(create_server(("127.0.0.1", 0))) as listening:
            serving = deferToThread(accept)
            url = f"http://127.0.0.1:{listening.getsockname()[1]}/"
            body = Body(None, self.blocks, is_asked_for=True)
            answer = await client.send("PUT", url, {}, body)
            await answer.read(1000)
            received = await serving
        await client.close()
        return answer, received


def read_until(connection: socket.socket, end: bytes) -> bytes:
    received = b""
    while not received.endswith(end):
        data = connection.recv(1 << 20)
        assert data
        received += data
    return received


def rest_of(connection: socket.socket) -> bytes:
    received = b""
    with suppress(ConnectionResetError):
        while data := connection.recv(1 << 20):
            received += data
    return received


@pytest_twisted.ensureDeferred
async def test_data_is_sent_when_it_is_asked_for() -> None:
    sending = Sending(3)

    def serve(connection: socket.socket) -> bytes:
        head = read_until(connection, b"\r\n\r\n")
        assert b"Expect: 100-continue\r\n" in head
        assert sending.asked == 0
        for byte in GO_ON:
            connection.sendall(bytes([byte]))
        body = read_until(connection, b"0\r\n\r\n")
        connection.sendall(DONE)
        return body

    answer, body = await sending.to(serve)
    assert answer.status == 201
    assert body.count(b"100000\r\n") == 3
    assert len(body) > 3 << 20


@pytest_twisted.ensureDeferred
async def test_nothing_is_sent_to_a_server_that_refuses() -> None:
    sending = Sending(3)

    def serve(connection: socket.socket) -> bytes:
        read_until(connection, b"\r\n\r\n")
        connection.sendall(REFUSED)
        return rest_of(connection)

    answer, body = await sending.to(serve)
    assert answer.status == 401
    assert sending.asked == 0
    assert body in (b"", b"0\r\n\r\n")


@pytest_twisted.ensureDeferred
async def test_no_more_is_sent_to_a_server_that_refuses_in_the_middle() -> None:
    sending = Sending(500)

    def serve(connection: socket.socket) -> bytes:
        read_until(connection, b"\r\n\r\n")
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        connection.recv(1 << 20)
        connection.sendall(REFUSED)
        return rest_of(connection)

    answer, _ = await sending.to(serve)
    assert answer.status == 401
    assert sending.asked < 100


@pytest_twisted.ensureDeferred
async def test_data_is_sent_to_a_server_that_says_nothing() -> None:
    def serve(connection: socket.socket) -> bytes:
        body = read_until(connection, b"0\r\n\r\n")
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n" + DONE)
        return body

    answer, body = await Sending(1).to(serve, permission=0.1)
    assert answer.status == 201
    assert len(body) > 1 << 20


@pytest.mark.parametrize("turns", range(5))
@pytest_twisted.ensureDeferred
async def test_a_request_can_be_cancelled_at_any_moment(turns: int) -> None:
    """Also in the first moment, when Twisted would say that it does not know the host."""
    client = ConfiguredClient(reactor, tls_policy(), FetchLimits(), 1)
    with closing(create_server(("127.0.0.1", 0))) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/"
        sending = Deferred.fromCoroutine(client.send("GET", url, {}))
        for _ in range(turns):
            await deferToThread(lambda: None)
        sending.cancel()
        with pytest.raises(CancelledError):
            await sending
    await client.close()
