"""No duration is measured by a clock that can be set."""

import ast
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import reactor as installed_reactor
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.task import LoopingCall

import imgservice
from imgservice.concurrency.clock import make_monotonic

reactor: Any = installed_reactor

SOURCES = Path(imgservice.__file__).parent
MOMENTS = {
    "keystone/credentials.py": "when Keystone says that a token ends",
    "auth/keystone/tokens.py": "when Keystone says that a token ends",
    "auth/tokens.py": "until when the operator lets a token live",
    "commands/db/purge.py": "the age of rows, in days",
    "service/events.py": "when something happened",
    "telemetry/logs.py": "the times of lines",
    "process/worker_process.py": "since when, for people",
    "process/serving.py": "since when, for people",
    "process/phases.py": "since when, for people",
    "process/supervisor.py": "since when, for people",
    "troubles.py": "since when, for people",
}
"""The files that may look at the wall clock as a number, and what for: a moment, no duration."""
WALL_CLOCKS = {"time.time", "time.time_ns", "time.clock_gettime"}


@pytest.fixture
def own_reactor() -> Iterator[Any]:
    made = EPollReactor()
    yield made
    made.removeAll()
    made._poller.close()
    made.waker.connectionLost(None)


def test_timers_run_on_the_monotonic_clock(own_reactor: Any) -> None:
    make_monotonic(own_reactor)
    make_monotonic(own_reactor)  # as often as one likes
    soon = own_reactor.callLater(10, lambda: None)
    assert abs(soon.getTime() - 10 - time.monotonic()) < 5
    soon.reset(20)
    assert abs(soon.getTime() - 20 - time.monotonic()) < 5
    call = LoopingCall(lambda: None)
    call.clock = own_reactor
    call.start(30, now=False)
    assert call.starttime is not None
    assert abs(call.starttime - time.monotonic()) < 5
    call.stop()
    soon.cancel()


def test_the_clock_is_not_changed_below_running_timers(own_reactor: Any) -> None:
    waiting = own_reactor.callLater(10, lambda: None)
    with pytest.raises(RuntimeError, match="timers run already"):
        make_monotonic(own_reactor)
    waiting.cancel()


def test_the_tests_run_on_the_same_clock() -> None:
    assert reactor.seconds is time.monotonic


def wall_clocks(source: str) -> set[str]:
    """Return the wall clocks that a module names, as numbers of seconds."""
    tree = ast.parse(source)
    named = {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    imported = {
        f"{node.module}.{each.name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for each in node.names
    }
    return WALL_CLOCKS & (named | imported)


def test_only_moments_are_told_by_the_wall_clock() -> None:
    looking = {
        str(path.relative_to(SOURCES))
        for path in SOURCES.rglob("*.py")
        if wall_clocks(path.read_text())
    }
    assert looking == set(MOMENTS)


def test_what_the_search_for_wall_clocks_finds() -> None:
    assert wall_clocks("import time\ndef f(clock=time.time): pass") == {"time.time"}
    assert wall_clocks("from time import time as now") == {"time.time"}
    assert wall_clocks("import time\ntime.monotonic()") == set()
