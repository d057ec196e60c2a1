"""Files of the operator that are read anew when they change, without a restart."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from twisted.logger import Logger

T = TypeVar("T")
INTERVAL = 1.0
"""Seconds for which the files are not looked at again."""

_log = Logger()


class Unreadable(Exception):
    """A file that is not there, may not be read, or has a mistake; the message has its path."""


class Watched(Generic[T]):
    """What `read` makes of some files.

    `read` raises `Unreadable`. At the first reading that is the caller's affair; later ones keep
    what was read before, and the log says once for each change what is wrong.
    """

    def __init__(
        self,
        paths: Callable[[], Sequence[Path]],
        read: Callable[[], T],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._paths = paths
        self._read = read
        self._clock = clock
        self._seen = self._signature()
        self._value = read()
        self._next_look = clock() + INTERVAL

    def __call__(self) -> T:
        """Return the present value; looks at the files now and then, which costs no input."""
        if self._clock() >= self._next_look:
            self._next_look = self._clock() + INTERVAL
            self._look()
        return self._value

    def _look(self) -> None:
        signature = self._signature()
        if signature == self._seen:
            return
        self._seen = signature
        try:
            self._value = self._read()
        except Unreadable as error:
            _log.error("{error}; what was read before holds on", error=error)
        else:
            _log.info("Read again: {paths}", paths=", ".join(map(str, self._paths())))

    def _signature(self) -> Sequence[object]:
        return [(path, _state(path)) for path in self._paths()]


def _state(path: Path) -> object:
    try:
        found = path.stat()
    except OSError as error:
        return error.errno
    return found.st_mtime_ns, found.st_size, found.st_ino


def read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise Unreadable(f"{path}: cannot be read: {reason}") from None
