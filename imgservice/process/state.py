"""The state of the service in a file, for `imgservice status` and for monitoring."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson
from twisted.logger import Logger

from imgservice.concurrency.processes import start_time

_log = Logger()


class StateFile:
    """Rewritten as a whole whenever something has changed."""

    def __init__(self, path: str | None) -> None:
        self._path = Path(path).absolute() if path else None
        self._written: Mapping[str, object] | None = None
        self._complained = False

    def write(self, state: Mapping[str, object]) -> None:
        if self._path is None or state == self._written:
            return
        mine = {"pid": os.getpid(), "started": start_time(os.getpid())}
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            temporary = self._path.with_name(f".{self._path.name}.{os.getpid()}")
            temporary.write_bytes(orjson.dumps({**mine, **state}, option=orjson.OPT_INDENT_2))
            temporary.replace(self._path)
        except OSError as error:
            if not self._complained:
                _log.error("server.state_file cannot be written: {error}", error=error)
            self._complained = True
        else:
            if self._complained:
                _log.warn("server.state_file: {path} can be written again", path=str(self._path))
            self._written, self._complained = state, False

    def remove(self) -> None:
        if self._path is not None and self._written is not None:
            self._path.unlink(missing_ok=True)


def read_state(path: Path) -> Mapping[str, Any] | None:
    """Return what a running service has written; None when the one that wrote it has ended."""
    try:
        state: Mapping[str, Any] = orjson.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    return state if start_time(state["pid"]) == state["started"] else None
