"""The bodies of requests that the service sends, over real sockets."""

import socket
from collections.abc import AsyncGenerator
from contextlib import closing, suppress
from socket import create_server
from typing import Any, cast

import pytest
import pytest_twisted
from twisted.internet import reactor as installed_reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from imgservice.net.bodies import Body
from imgservice.net.client import ConfiguredClient
from imgservice.net.errors import FetchFailed
from imgservice.net.limits import FetchLimits
from imgservice.net.tls import tls_policy

reactor = cast(Any, installed_reactor)


async def pause(seconds: float) -> None:
    await deferLater(reactor, seconds)


@pytest_twisted.ensureDeferred
async def test_a_body_is_sent_as_it_comes_and_no_faster_than_it_is_taken() -> None:
    """The next block is asked for when the server has nearly all before it."""
    client = ConfiguredClient(reactor, tls_policy(), FetchLimits(connect=2, idle=5), 1)
    asked: list[int] = []

    async def blocks() -> AsyncGenerator[bytes, None]:
        for number in range(64):
            asked.append(number)
            yield bytes(1 << 20)

    with closing(create_server(("127.0.0.1", 0))) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/"
        sending = Deferred.fromCoroutine(client.send("PUT", url, {}, Body(64 << 20, blocks)))
        connection = await deferToThread(lambda: listening.accept()[0])
        await pause(0.3)
        assert len(asked) < 32
        received = await deferToThread(received_body, connection, 64 << 20)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        assert (await sending).status == 200
        assert received == 64 << 20
        connection.close()
    await client.close()


def received_body(connection: socket.socket, length: int) -> int:
    """Read a request up to the end of the connection, and return how much there is of its body."""
    head = b""
    while b"\r\n\r\n" not in head and (data := connection.recv(1 << 16)):
        head += data
    total = len(head.partition(b"\r\n\r\n")[2])
    while total < length and (data := connection.recv(1 << 20)):
        total += len(data)
    return total


class Disturbance(Exception):
    """What a body raises in these tests."""


@pytest_twisted.ensureDeferred
async def test_what_a_body_raises_is_passed_on_and_closes_the_connection() -> None:
    client = ConfiguredClient(reactor, tls_policy(), FetchLimits(connect=2, idle=5), 1)

    async def blocks() -> AsyncGenerator[bytes, None]:
        yield bytes(10)
        raise Disturbance

    with closing(create_server(("127.0.0.1", 0))) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/"
        with pytest.raises(Disturbance):
            await client.send("PUT", url, {}, Body(100, blocks))
        with listening.accept()[0] as connection, suppress(ConnectionResetError):
            assert await deferToThread(received_body, connection, 100) <= 10


@pytest_twisted.ensureDeferred
async def test_a_server_that_takes_no_more_of_a_body_is_given_up() -> None:
    client = ConfiguredClient(reactor, tls_policy(), FetchLimits(connect=2, idle=0.3), 1)

    async def blocks() -> AsyncGenerator[bytes, None]:
        for _ in range(64):
            yield bytes(1 << 20)

    with closing(create_server(("127.0.0.1", 0))) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/"
        with pytest.raises(FetchFailed, match="too long"):
            await client.send("PUT", url, {}, Body(64 << 20, blocks))
        with pytest.raises(FetchFailed, match="too long"):  # it does not answer either
            await client.send("PUT", url, {}, b"all of it")


@pytest_twisted.ensureDeferred
async def test_data_that_is_late_itself_is_no_fault_of_the_server() -> None:
    client = ConfiguredClient(reactor, tls_policy(), FetchLimits(connect=5, idle=2), 1, 30.0)

    async def blocks() -> AsyncGenerator[bytes, None]:
        yield b"x"
        await pause(3)
        yield b"yz"

    with closing(create_server(("127.0.0.1", 0))) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/"
        sending = Deferred.fromCoroutine(client.send("PUT", url, {}, Body(3, blocks)))
        connection = await deferToThread(lambda: listening.accept()[0])
        assert await deferToThread(received_body, connection, 3) == 3
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        assert await (await sending).read(0) == b""
        again = Deferred.fromCoroutine(client.send("PUT", url, {}, b"on the same connection"))
        assert await deferToThread(received_body, connection, 22) == 22
        connection.sendall(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")
        assert (await again).status == 201
        connection.close()
    await client.close()
