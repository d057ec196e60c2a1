"""What every test may ask for; servers are started when a test first does."""

import os
import sys
from collections.abc import Generator
from typing import Any

import pytest

from imgservice.concurrency.clock import make_monotonic
from tests.examples import choose_profile
from tests.glance import identity
from tests.keystone import keystone
from tests.servers import (
    mariadb,
    mariadb_database,
    mariadb_url,
    postgresql,
    postgresql_database,
    postgresql_url,
)

__all__ = [
    "identity",
    "keystone",
    "mariadb",
    "mariadb_database",
    "mariadb_url",
    "postgresql",
    "postgresql_database",
    "postgresql_url",
]


SLOWEST = 20
"""Files that are listed in the end."""

choose_profile()
# Some hundred processes are started: each would compile our modules anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False


@pytest.hookimpl(trylast=True)
def pytest_configure() -> None:
    """Let the reactor that pytest-twisted has chosen run as the service's own does."""
    from twisted.internet import reactor

    make_monotonic(reactor)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, Any, Any]:
    """Undo what pytest-twisted does to a hypothesis test, which it would do again for the next of
    the test's parameters."""
    handle = getattr(pyfuncitem.obj, "hypothesis", None)
    if handle is None:
        return (yield)
    inner = handle.inner_test
    try:
        return (yield)
    finally:
        handle.inner_test = inner


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Tell which files the time went to: their tests, fixtures and services."""
    seconds: dict[str, float] = {}
    for reports in terminalreporter.stats.values():
        for report in reports:
            if isinstance(report, pytest.TestReport):
                file = report.nodeid.partition("::")[0]
                seconds[file] = seconds.get(file, 0) + report.duration
    terminalreporter.section("slowest files")
    for file in sorted(seconds, key=lambda one: -seconds[one])[:SLOWEST]:
        terminalreporter.write_line(f"{seconds[file]:7.1f} s  {file}")
    terminalreporter.write_line(f"{sum(seconds.values()):7.1f} s  in all, by all processes")
