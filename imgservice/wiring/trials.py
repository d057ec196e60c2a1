"""Trials of a configuration, by whoever has imported the service."""

import os
from collections.abc import Callable
from typing import Protocol

from imgservice.config.sections import Config


class Trials(Protocol):
    """Finds out whether a configuration can be used."""

    def examine(self, config: Config) -> None:
        """Check that the service can be built; `ConfigError` tells what is wrong, and its place."""

    def prepare(self, config: Config) -> Callable[[], None]:
        """Begin to check that, and to prepare the database and the stores.

        What is returned waits for the end, in any thread; `ConfigError` as above.
        """


class Examined:
    """Remembers what was examined last: the same need not be examined again by the same user."""

    def __init__(self) -> None:
        self._last: tuple[Config, int] | None = None

    def add(self, config: Config) -> None:
        self._last = config, os.geteuid()

    def __contains__(self, config: Config) -> bool:
        # An equal one may name files that have changed.
        return self._last is not None and self._last[0] is config and self._last[1] == os.geteuid()
