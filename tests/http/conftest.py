"""A real site on a real port for every test, and nothing left of it afterwards."""

import gc
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor as installed_reactor
from twisted.internet.defer import CancelledError
from twisted.logger import LogEvent, LogLevel

from imgservice.concurrency.threads import Threads
from tests.http.serving import Certificate, Serving, until
from tests.logs import observed

reactor: Any = installed_reactor


@pytest.fixture(scope="module", autouse=True)
def all_that_was_there_stays() -> None:
    """Collecting garbage after each test looks at the objects of this file's tests only."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def logged() -> Iterator[list[LogEvent]]:
    """What was logged as an error; a test that expects some looks at it and clears it."""
    events: list[LogEvent] = []

    def note(event: LogEvent) -> None:
        failure = event.get("log_failure")
        if failure is not None and failure.check(CancelledError) is not None:
            return
        if failure is not None or event.get("log_level", LogLevel.info) >= LogLevel.error:
            events.append(event)

    with observed(note):
        yield events
        gc.collect()  # a Deferred whose failure nobody handled says so when it goes
    assert [event.get("log_failure") or event for event in events] == []


def _descriptors() -> list[str]:
    """Return what is open, but for /dev/null, of which Twisted keeps some in reserve."""
    found = []
    for link in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # this folder itself
            found.append(str(link.readlink()))
    return sorted(target for target in found if target != "/dev/null")


@pytest_twisted.async_yield_fixture(autouse=True)
async def nothing_left_behind(logged: list[LogEvent]) -> AsyncIterator[None]:
    """No connection, descriptor or delayed call outlives its test, and no failure is hidden."""
    readers, calls = set(reactor.getReaders()), set(reactor.getDelayedCalls())
    descriptors = set(_descriptors())
    yield
    await until(lambda: set(reactor.getReaders()) <= readers)
    await until(lambda: set(reactor.getWriters()) == set())
    await until(lambda: set(_own_calls()) <= calls)
    await until(lambda: set(_descriptors()) <= descriptors)


def _own_calls() -> list[Any]:
    """Return the delayed calls but those of `until` itself."""
    return [call for call in reactor.getDelayedCalls() if "deferLater" not in repr(call)]


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return Certificate.make(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def threads() -> Iterator[Threads]:
    threads = Threads(reactor, 2, "test")
    yield threads
    threads.stop()


@pytest_twisted.async_yield_fixture
async def serve() -> AsyncIterator[Callable[..., Serving]]:
    """Start sites over plain TCP: `serve(handler, steps=(), **options of the site)`."""
    started: list[Serving] = []

    def start(*args: Any, **kwargs: Any) -> Serving:
        started.append(Serving(*args, **kwargs))
        return started[-1]

    yield start
    for serving in started:
        await serving.stop()


@pytest.fixture(params=["plain", "tls"])
def serve_both(
    request: pytest.FixtureRequest, serve: Callable[..., Serving], certificate: Certificate
) -> Callable[..., Serving]:
    """Start sites as `serve` does, once over plain TCP and once over TLS."""

    def start(*args: Any, **kwargs: Any) -> Serving:
        own = certificate if request.param == "tls" else None
        return serve(*args, certificate=own, **kwargs)

    return start
