"""What every test may ask for; servers are started when a test first does."""

import gc
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
from tests.summary import pytest_sessionfinish, pytest_terminal_summary, pytest_testnodedown
from tests.swift import swift

__all__ = [
    "identity",
    "keystone",
    "mariadb",
    "mariadb_database",
    "mariadb_url",
    "postgresql",
    "postgresql_database",
    "postgresql_url",
    "pytest_sessionfinish",
    "pytest_terminal_summary",
    "pytest_testnodedown",
    "swift",
]


choose_profile()
# Some hundred processes are started: each would compile our modules anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False


@pytest.hookimpl(trylast=True)
def pytest_configure() -> None:
    """Let the reactor that pytest-twisted has chosen run as the service's own does."""
    from twisted.internet import reactor

    make_monotonic(reactor)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Look for no garbage meanwhile, nor later among what is there then: all of it stays."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


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
