"""Files of the operator that are read anew when they change, without a restart."""

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import Generic, TypeVar

from twisted.logger import Logger

T = TypeVar("T")
State = tuple[int, ...]
"""What changes with a file: times of contents and attributes, size, inode; or an error number."""
INTERVAL = 1.0
"""Seconds after which the files are checked although no request has begun."""
SETTLE_TIME = 2.0
"""Seconds after a change for which contents are compared: the coarsest clock of a file system."""
EMPTY_TIME = 1.0
"""Seconds for which a file that was truncated counts as one that is being written."""

_log = Logger()


class Unreadable(Exception):
    """A file is missing, may not be read, or has a mistake; the message has its path."""


class _Requests:
    begun = 0


def request_begins() -> None:
    """Have every watched file checked when it is next used: once for each request."""
    _Requests.begun += 1


class Watched(Generic[T]):
    """What `read` makes of some files; a change counts for the next request.

    At the first reading, `Unreadable` goes to the caller. Later, the previous version is kept, and
    the error is logged once for each change. May be called in any thread.
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
        self._lock = Lock()
        self._emptied: float | None = None
        self._take_note()
        self._value = read()
        self._looked = _Requests.begun
        self._next_look = clock() + INTERVAL

    def __call__(self) -> T:
        """Return the present value; costs a `stat` for each file, once for each request."""
        begun = _Requests.begun
        if begun != self._looked:
            self._look()
            self._looked = begun
        elif self._clock() >= self._next_look:
            self._next_look = self._clock() + INTERVAL
            self._look()
        return self._value

    def _look(self) -> None:
        if self._contents is not None or not self._is_unchanged():
            with self._lock:
                self._look_closely()

    def _is_unchanged(self) -> bool:
        return all(file_state(path) == state for path, state in self._states.items())

    def _look_closely(self) -> None:
        states = {path: file_state(path) for path in self._states}
        if states == self._states:
            if not self._is_rewritten():
                return
        elif self._is_being_written(states):
            return
        self._take_note()
        try:
            self._value = self._read()
        except Unreadable as error:
            _log.error("{error}; keeping the previous version", error=error)
        except Exception:  # a bug in the reader is no reason to refuse the request
            paths = ", ".join(self._states)
            _log.failure("{paths}: cannot be read; keeping the previous version", paths=paths)
        else:
            _log.info("Read again: {paths}", paths=", ".join(self._states))

    def _take_note(self) -> None:
        """Note the state of the files before they are read, so that later changes are seen."""
        states = {path: file_state(path) for path in map(str, self._paths())}
        # This comes first: while it is there, other threads wait for the lock.
        self._contents: Mapping[str, object] | None = _contents(states)
        self._states: Mapping[str, State] = states
        self._settled = self._clock() + SETTLE_TIME

    def _is_rewritten(self) -> bool:
        """Tell whether contents changed within one tick of the file system's clock.

        The contents are dropped when no such change can come any more.
        """
        if self._contents is None:
            return False
        is_settled = self._clock() >= self._settled
        if _contents(self._states) != self._contents:
            return True
        if is_settled:
            self._contents = None
        return False

    def _is_being_written(self, states: Mapping[str, State]) -> bool:
        """Tell whether a file was truncated a moment ago: usually its new contents follow."""
        if not any(_is_emptied(self._states[path], state) for path, state in states.items()):
            self._emptied = None
            return False
        if self._emptied is None:
            self._emptied = self._clock()
        return self._clock() < self._emptied + EMPTY_TIME


def file_state(path: str) -> State:
    """Return what changes when the file does, without reading it."""
    try:
        found = os.stat(path)  # noqa: PTH116  half the cost of Path.stat, for every request
    except OSError as error:
        return (error.errno or 0,)
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino


def _is_emptied(before: State, now: State) -> bool:
    """Tell whether the same file has lost its contents."""
    return len(before) == len(now) == 4 and before[2:] != now[2:] == (0, before[3])


def _contents(paths: Iterable[str]) -> Mapping[str, object]:
    return {path: _content(Path(path)) for path in paths}


def _content(path: Path) -> object:
    """Return what distinguishes versions of a file, or of a folder."""
    try:
        return sorted(os.listdir(path)) if path.is_dir() else path.read_bytes()  # noqa: PTH208
    except OSError as error:
        return error.errno


def read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise Unreadable(f"{path}: cannot be read: {reason}") from None
