"""Connections that are accepted, that have to wait, and that are refused."""

import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor as installed_reactor
from twisted.internet.endpoints import UNIXServerEndpoint
from twisted.internet.task import Clock
from twisted.logger import LogEvent

from imgservice.http.connection_limits import ConnectionCaps, ConnectionLimits
from imgservice.http.log_limit import SILENCE
from imgservice.http.networks import networks
from tests.http.serving import Serving, Wire, echo, in_reactor, request_bytes, until
from tests.logs import observed

Serve = Callable[..., Serving]
reactor: Any = installed_reactor


def limits(in_all: int | None = None, each: int | None = None, *exempt: str) -> ConnectionLimits:
    return ConnectionLimits(reactor, ConnectionCaps(in_all, each, networks(exempt)))


@pytest.fixture
def told() -> Iterator[list[LogEvent]]:
    """What the connection limits logged."""
    events: list[LogEvent] = []

    def note(event: LogEvent) -> None:
        if event.get("log_namespace") == "imgservice.http.connection_limits":
            events.append(event)

    with observed(note):
        yield events


def _is_served(wire: Wire) -> bool:
    wire.ask("GET")
    return wire.reply().status == 200


def _is_refused(serving: Serving, source: str) -> bool:
    """Tell whether the connection ends before a byte is said, in TLS before the handshake."""
    try:
        with serving.open(source=source) as wire:
            return wire.ends()
    except (ConnectionError, ssl.SSLError):
        return True


# -- one address ----------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_an_address_has_so_many_connections(serve_both: Serve) -> None:
    serving = serve_both(echo, connection_limits=limits(None, 3, "127.0.0.9"))

    def client(wire: Wire) -> None:
        with ExitStack() as stack:

            def open_one(source: str) -> Wire:
                return stack.enter_context(serving.open(source=source))

            first, *others = [open_one("127.0.0.2") for _ in range(3)]
            assert _is_served(first)
            for _ in range(5):
                assert _is_refused(serving, "127.0.0.2")
            assert all(_is_served(other) for other in others)
            assert all(_is_served(open_one("127.0.0.3")) for _ in range(3))
            assert all(_is_served(open_one("127.0.0.9")) for _ in range(10))
            first.close()
            _until_in_thread(lambda: serving.site.connection_limits.admits("127.0.0.2"))
            assert _is_served(open_one("127.0.0.2"))
            assert _is_refused(serving, "127.0.0.2")
        assert _is_served(wire)

    await serving.talk(client, source="127.0.0.9")
    await serving.quiet()
    assert serving.site.connection_limits.connections == 0


def _until_in_thread(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not in_reactor(condition):
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.01)


@pytest_twisted.ensureDeferred
async def test_refusing_is_logged_once_in_a_while(serve: Serve, told: list[LogEvent]) -> None:
    serving = serve(echo, connection_limits=limits(None, 1))

    def client(wire: Wire) -> None:
        assert _is_served(wire)
        for _ in range(200):
            assert _is_refused(serving, "127.0.0.2")

    await serving.talk(client, source="127.0.0.2")
    assert serving.site.connection_limits.refused == 200
    assert [event["host"] for event in told] == ["127.0.0.2"]


def test_what_was_not_logged_is_counted(told: list[LogEvent]) -> None:
    clock = Clock()
    counted = ConnectionLimits(clock, ConnectionCaps(of_each_address=1))
    counted.enter("192.0.2.1")
    for _ in range(10):
        assert not counted.admits("192.0.2.1")
    clock.advance(SILENCE)
    assert not counted.admits("192.0.2.1")
    assert [event["count"] for event in told] == [1, 10]


@pytest.mark.parametrize(
    ("one", "other", "are_one"),
    [
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("fe80::1%eth0", "fe80::2%eth0", True),
    ],
)
def test_what_one_address_is(one: str, other: str, are_one: bool) -> None:
    counted = limits(None, 1)
    key = counted.enter(one)
    assert counted.admits(other) != are_one
    counted.leave(key)
    assert counted.admits(other)


@pytest_twisted.ensureDeferred
async def test_unix_sockets_have_no_address(serve: Serve, tmp_path: Any) -> None:
    serving = serve(echo, connection_limits=limits(None, 1))
    path = tmp_path / "socket"
    listening: list[Any] = []
    endpoint: Any = UNIXServerEndpoint(reactor, str(path))
    endpoint.listen(serving.site).addCallback(listening.append)
    serving.site.connection_limits.watch(listening[0])

    def client(_: Wire) -> None:
        with ExitStack() as stack:
            for _number in range(3):
                plain = stack.enter_context(socket.socket(socket.AF_UNIX))
                plain.settimeout(60)
                plain.connect(str(path))
                plain.sendall(request_bytes("GET"))
                assert plain.recv(12) == b"HTTP/1.1 200"

    await serving.talk(client)
    await listening[0].stopListening()


# -- the process ----------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_who_is_too_many_waits(serve: Serve, told: list[LogEvent]) -> None:
    serving = serve(echo, connection_limits=limits(10))

    def client(wire: Wire) -> None:
        assert _is_served(wire)
        waiting = [serving.open() for _ in range(40)]
        _until_in_thread(lambda: serving.site.connection_limits.is_crowded)
        assert serving.listener not in in_reactor(reactor.getReaders)
        assert in_reactor(lambda: serving.site.connection_limits.connections) == 10
        assert _is_served(wire)
        for late in waiting:
            assert _is_served(late)
            late.close()

    await serving.talk(client)
    await serving.quiet()
    await until(lambda: serving.listener in reactor.getReaders())
    assert serving.site.connection_limits.refused == 0
    assert [event["connections"] for event in told] == [10]


@pytest_twisted.ensureDeferred
async def test_accepting_goes_on_when_there_is_room_again(serve: Serve) -> None:
    """And not with every connection that ends."""
    serving = serve(echo, connection_limits=limits(40))

    def client(wire: Wire) -> None:
        with ExitStack() as stack:
            open_ = [stack.enter_context(serving.open()) for _ in range(39)]
            late = stack.enter_context(serving.open())
            late.ask("GET")
            _until_in_thread(lambda: serving.site.connection_limits.is_crowded)
            open_[0].close()
            _until_in_thread(lambda: serving.site.connection_limits.connections == 39)
            assert in_reactor(lambda: serving.site.connection_limits.is_crowded)
            assert _is_served(wire)
            open_[1].close()
            assert late.reply().status == 200

    await serving.talk(client)


@pytest_twisted.ensureDeferred
async def test_a_port_that_stops_while_it_waits(serve: Serve) -> None:
    serving = serve(echo, connection_limits=limits(1))

    def client(wire: Wire) -> None:
        assert _is_served(wire)
        with serving.open():
            _until_in_thread(lambda: serving.site.connection_limits.is_crowded)
            in_reactor(serving.listener.stopListening)

    await serving.talk(client)
    await serving.quiet()
    assert serving.listener not in reactor.getReaders()
