"""The log: lines of text or JSON."""

import os
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import orjson
from constantly import NamedConstant
from twisted.logger import ILogObserver, LogEvent, LogLevel, formatEvent
from zope.interface import implementer

from imgservice.concurrency.reactor import Clock
from imgservice.config.sections.logging import LoggingOptions
from imgservice.escaping import escaped

FLUSH_INTERVAL = 0.2
MOST_WAITING = 500
"""Lines that are written at once even before the interval is over."""

_LEVELS = {
    "debug": LogLevel.debug,
    "info": LogLevel.info,
    "warn": LogLevel.warn,
    "error": LogLevel.error,
}
_NOISE = ("Starting factory ", "Stopping factory ")
"""Beginnings of Twisted's lines about every connection, which belong to the level debug."""


class Output:
    """Writes lines to a file, which may be moved away at any time, or to standard output.

    Lines are collected for a fraction of a second; those about errors are written at once.
    """

    def __init__(self, path: str | None) -> None:
        self._path = path
        self._descriptor = 1 if path is None else self._open()
        self._inode = os.fstat(self._descriptor).st_ino
        self._lines: list[bytes] = []
        self._clock: Clock | None = None
        self._scheduled = False

    @property
    def descriptor(self) -> int:
        """The descriptor in use; it belongs to this object, and may be closed at any time."""
        return self._descriptor

    def redirect(self, path: str | None) -> None:
        """Write to this file from now on; `OSError` if it cannot be opened."""
        if path != self._path:
            self.flush()
            before, self._path = self._path, path
            try:
                descriptor = 1 if path is None else self._open()
            except OSError:
                self._path = before
                raise
            if before is not None:
                os.close(self._descriptor)
            self._descriptor = descriptor
            self._inode = os.fstat(descriptor).st_ino

    def give_to(self, uid: int, gid: int) -> None:
        """Give the file to another user, so that we can reopen it when we are that user."""
        if self._path is not None:
            os.fchown(self._descriptor, uid, gid)

    def start(self, clock: Clock) -> None:
        """Collect lines from now on: the reactor runs."""
        self._clock = clock

    def write(self, line: bytes, urgent: bool = False) -> None:
        self._lines.append(line)
        if urgent or self._clock is None or len(self._lines) >= MOST_WAITING:
            self.flush()
        elif not self._scheduled:
            self._scheduled = True
            self._clock.callLater(FLUSH_INTERVAL, self._flush_scheduled)

    def flush(self) -> None:
        """Write what waits."""
        data = memoryview(b"".join(self._lines))
        self._lines.clear()
        self._reopen_if_moved()
        while data:
            try:
                data = data[os.write(self._descriptor, data) :]
            except BlockingIOError:
                time.sleep(0.01)  # standard output was made non-blocking, and is full
            except OSError:
                return  # a full disk or a closed pipe must not stop the service

    def stop(self) -> None:
        """Write everything at once from now on."""
        self._clock = None
        self.flush()

    def _flush_scheduled(self) -> None:
        self._scheduled = False
        self.flush()

    def _open(self) -> int:
        assert self._path is not None  # noqa: S101
        return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)

    def _reopen_if_moved(self) -> None:
        if self._path is None:
            return
        try:
            moved = Path(self._path).stat().st_ino != self._inode
        except FileNotFoundError:
            moved = True
        except OSError:
            return
        if moved:
            os.close(self._descriptor)
            self._descriptor = self._open()
            self._inode = os.fstat(self._descriptor).st_ino


@implementer(ILogObserver)
class Observer:
    """Writes Twisted's log events."""

    def __init__(self, output: Output, as_json: bool, level: str) -> None:
        self._output = output
        self.configure(as_json, level)

    def configure(self, as_json: bool, level: str) -> None:
        self._as_json = as_json
        self._least = _LEVELS[level]

    def __call__(self, event: LogEvent) -> None:
        level = _level(event)
        if level < self._least and "log_failure" not in event:
            return
        text, trace = formatEvent(event), _traceback(event)
        when = moment(event.get("log_time", time.time()))
        line = (
            json_line(time=when, level=level.name, message=text, traceback=trace)
            if self._as_json
            else _text(when, level.name, text, trace)
        )
        self._output.write(line, urgent=level >= LogLevel.warn)


def make_logs(options: LoggingOptions, file: str | None) -> tuple[Output, Observer]:
    """Make what logs to the file, or to standard output; `OSError` when it cannot be written."""
    output = Output(file)
    return output, Observer(output, options.format == "json", options.level)


def _level(event: LogEvent) -> NamedConstant:
    is_noise = str(event.get("log_format")).startswith(_NOISE)
    return LogLevel.debug if is_noise else event.get("log_level", LogLevel.info)


def moment(seconds: float) -> str:
    text = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def _text(when: str, level: str, text: str, trace: str | None) -> bytes:
    """Write an event; lines behind its first are indented, so that none looks like an event."""
    first, *more = text.rstrip().split("\n") + (trace or "").rstrip().split("\n")
    lines = [f"{when} {level} {escaped(first)}", *(f"  {escaped(one)}" for one in more if one)]
    return ("\n".join(lines) + "\n").encode()


def json_line(**facts: object) -> bytes:
    told = {name: value for name, value in facts.items() if value is not None}
    try:
        text = orjson.dumps(told).decode()
    except TypeError:  # half of a surrogate pair, as in the name of a file that is not UTF-8
        clean = {n: escaped(v) if isinstance(v, str) else v for n, v in told.items()}
        text = orjson.dumps(clean).decode()
    return escaped(text).encode() + b"\n"


def _traceback(event: LogEvent) -> str | None:
    failure = event.get("log_failure")
    if failure is None:
        return None
    trace: str = failure.getTraceback(detail="default")
    return trace


def say(line: str) -> None:
    """Write to the terminal, also where standard output is redirected to the log."""
    stream = sys.__stderr__
    if stream is not None:
        stream.write(line + "\n")
        stream.flush()
