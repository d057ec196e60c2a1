"""Where the step `gzip` does its work, and what becomes of it when the client leaves."""

import gzip
from collections.abc import Callable, Iterator
from threading import Event, get_ident
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor as installed_reactor
from twisted.internet.defer import Deferred

from imgservice.api.middleware.gzip import Gzip
from imgservice.concurrency.threads import Threads
from imgservice.http.request import StreamingRequest
from imgservice.http.response import Response
from tests.http.serving import Serving, Wire

Serve = Callable[..., Serving]
SHORT, LONG = b'["short"]' * 1000, b'["long"]' * 100_000


class Counting(Threads):
    """Threads that keep in mind what they were given, and begin when they are let."""

    def __init__(self) -> None:
        super().__init__(installed_reactor, 1, "gzip")
        self.begin = Event()
        self.begin.set()
        self.ran: list[bool] = []
        self._reactor_thread = get_ident()

    def run(self, work: Callable[..., Any], *args: Any, **kwargs: Any) -> Deferred[Any]:
        def begun() -> Any:
            self.begin.wait()
            self.ran.append(get_ident() != self._reactor_thread)
            return work(*args, **kwargs)

        return super().run(begun)


@pytest.fixture
def threads() -> Iterator[Counting]:
    made = Counting()
    yield made
    made.begin.set()
    made.stop()


async def document(request: StreamingRequest) -> Response:
    body = LONG if request.path == b"/long" else SHORT
    return Response(200, body, "application/json")


def asks(path: str) -> Callable[[Wire], bytes]:
    def client(wire: Wire) -> bytes:
        wire.ask("GET", path, "Accept-Encoding: gzip")
        return gzip.decompress(wire.reply().body)

    return client


@pytest_twisted.ensureDeferred
async def test_only_what_takes_long_goes_to_a_thread(serve: Serve, threads: Counting) -> None:
    serving = serve(document, steps=[Gzip(threads)])
    assert await serving.talk(asks("/short")) == SHORT
    assert threads.ran == []
    assert await serving.talk(asks("/long")) == LONG
    assert threads.ran == [True]


@pytest_twisted.ensureDeferred
async def test_others_are_answered_meanwhile(serve: Serve, threads: Counting) -> None:
    serving = serve(document, steps=[Gzip(threads)])

    def client(wire: Wire) -> bytes:
        threads.begin.clear()
        wire.ask("GET", "/long", "Accept-Encoding: gzip")
        with serving.open() as other:
            other.ask("GET", "/long")
            assert other.reply().body == LONG
        threads.begin.set()
        return gzip.decompress(wire.reply().body)

    assert await serving.talk(client) == LONG


@pytest_twisted.ensureDeferred
async def test_a_client_that_leaves_meanwhile(serve: Serve, threads: Counting) -> None:
    serving = serve(document, steps=[Gzip(threads)])
    threads.begin.clear()
    await serving.talk(lambda wire: wire.ask("GET", "/long", "Accept-Encoding: gzip"))
    threads.begin.set()
    await serving.quiet()
    await serving.tasks.ended()
    assert await serving.talk(asks("/short")) == SHORT
