"""What is logged while a test runs."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import cast

import pytest
from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher


@contextmanager
def observed(note: Callable[[LogEvent], None]) -> Iterator[None]:
    """Call `note` with every event that is logged while the block runs."""
    observer = cast(ILogObserver, note)
    globalLogPublisher.addObserver(observer)
    try:
        yield
    finally:
        globalLogPublisher.removeObserver(observer)


@contextmanager
def log_lines(module: str | None = None) -> Iterator[list[str]]:
    """Collect what is logged while the block runs, by all modules or by this one."""
    found: list[str] = []

    def note(event: LogEvent) -> None:
        if module in (None, event.get("log_namespace")):
            found.append(formatEvent(event))

    with observed(note):
        yield found


@pytest.fixture
def lines() -> Iterator[list[str]]:
    with log_lines() as found:
        yield found
