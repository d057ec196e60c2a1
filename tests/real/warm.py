"""Services and commands that are forked from a process which has imported everything.

That is what the fork server does for workers. Here it saves the second of imports that each of some
hundred processes would cost; from the command line on, a forked process runs the same code.
"""

import atexit
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib import import_module
from pathlib import Path

import orjson
from setproctitle import setproctitle

from imgservice.cli import COMMANDS
from imgservice.concurrency.late_reactor import make_reactor, postpone_reactor
from imgservice.process.control import hidden_file, read_hidden_file
from imgservice.process.fork_server import ignore_group_signals, serve
from imgservice.process.messages import (
    LARGEST,
    Fork,
    Forked,
    Message,
    Reap,
    Reaped,
    decode,
    encode,
)
from imgservice.process.umask import present_umask

IMPORTED = (
    *(f"imgservice.commands.{place.partition(':')[0]}" for place in COMMANDS.values()),
    "imgservice.worker", "imgservice.tap", "twisted.scripts.twistd", "tests.real.early",
    # Services import the rest when they need it.
    "imgservice.wiring.alone", "imgservice.wiring.with_workers", "imgservice.domain.formats",
    "imgservice.api.middleware.keystone", "imgservice.auth.keystone.limits",
    "imgservice.db.engine.mysql", "imgservice.store.file.store", "imgservice.store.http",
    "imgservice.wiring.keystone", "alembic.command", "alembic.config", "encodings.idna",
    "psycopg", "pymysql", "sqlalchemy.dialects.mysql.pymysql",
    "sqlalchemy.dialects.postgresql.psycopg", "sqlalchemy.dialects.sqlite.pysqlite",
)  # fmt: skip
CACHE = Path(__file__).parents[2] / ".cache"


def _openstack(environment: str, *modules: str) -> Sequence[str]:
    python, script = (
        CACHE / environment / "bin" / "python",
        CACHE.parent / "tests/warm_openstack.py",
    )
    return [str(python), "-P", "-W", "ignore", str(script), "waitress", *modules]


_GLANCE = _openstack("glance-venv", "glance.cmd.manage", "glance.api.v2.router")
FORKERS: Mapping[str, Sequence[str]] = {
    "imgservice": [sys.executable, "-m", __name__],
    "twistd": [sys.executable, "-m", __name__],
    "openstack": [sys.executable, "-m", "tests.real.warm_client"],
    "glance-api": _GLANCE,
    "glance-manage": _GLANCE,
    "keystone": _openstack("keystone-venv", "keystone.server.wsgi"),
}
"""The processes that fork these programs; the number of a socket is added."""
PLACE = 3
"""Where a child reads its directory, its environment, and whether it will have workers."""


class WarmProcess:
    """One of the programs in `FORKERS`, with those methods of `Popen` that tests use."""

    def __init__(
        self,
        command: Sequence[str],
        folder: Path,
        environment: Mapping[str, str],
        descriptors: Sequence[int],
        has_workers: bool = False,
    ) -> None:
        """The descriptors are of its standard input, output and errors."""
        self.returncode: int | None = None
        self._command = command
        self._warm = _warm(*FORKERS[Path(command[0]).name])
        place = hidden_file(orjson.dumps([str(folder), dict(environment), has_workers]))
        self.pid, self._pidfd = self._warm.fork(command, [*descriptors, place])
        os.close(place)

    def poll(self) -> int | None:
        return self._look(0)

    def wait(self, timeout: float | None = None) -> int:
        code = self._look(timeout)
        if code is None:
            raise subprocess.TimeoutExpired(self._command, timeout or 0)
        return code

    def _look(self, timeout: float | None) -> int | None:
        if self.returncode is None and select.select([self._pidfd], [], [], timeout)[0]:
            os.close(self._pidfd)
            self.returncode = self._warm.reap(self.pid)
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            signal.pidfd_send_signal(self._pidfd, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class _Warm:
    def __init__(self, *forker: str) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            command = [*forker, str(theirs.fileno())]
            self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()])
        self._lock = threading.Lock()
        atexit.register(self._end)

    def fork(self, command: Sequence[str], descriptors: Sequence[int]) -> tuple[int, int]:
        fork = Fork(0, [0, 1, 2, PLACE], command, present_umask())
        answer, [pidfd] = self._ask(fork, descriptors)
        assert isinstance(answer, Forked)
        return answer.pid, pidfd

    def reap(self, pid: int) -> int:
        answer, _ = self._ask(Reap(0, pid), [])
        assert isinstance(answer, Reaped)
        return answer.code

    def _ask(self, message: Fork | Reap, descriptors: Sequence[int]) -> tuple[Message, list[int]]:
        with self._lock:
            socket.send_fds(self._control, [encode(message)], descriptors)
            data, received, _, _ = socket.recv_fds(self._control, LARGEST, 1)
        return decode(data), received

    def _end(self) -> None:
        self._control.close()
        self._process.wait()


@cache
def _warm(*forker: str) -> _Warm:
    """Return the process that forks; the first call starts it."""
    return _Warm(*forker)


def _run_imgservice() -> None:
    from imgservice.cli import main

    main(prog_name="imgservice")


def _run_twistd() -> None:
    from twisted.scripts.twistd import run

    run()


PROGRAMS: Mapping[str, Callable[[], None]] = {
    "imgservice": _run_imgservice,
    "twistd": _run_twistd,
}


def settle() -> bool:
    """Begin in a child; return whether it will have workers."""
    folder, environment, has_workers = orjson.loads(read_hidden_file(PLACE))
    setproctitle(" ".join(sys.argv))
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    return bool(has_workers)


def _run() -> int:
    if settle():
        from tests.real.early import EarlyForkServer

        early = EarlyForkServer()
        make_reactor()
        early.replace_spawn()
    else:
        make_reactor()
    try:
        PROGRAMS[Path(sys.argv[0]).name]()
    except SystemExit as ended:
        if ended.code is None or isinstance(ended.code, int):
            return ended.code or 0
        raise
    return 0


if __name__ == "__main__":
    ignore_group_signals()
    setproctitle("imgservice-warm")
    postpone_reactor()
    for name in IMPORTED:
        import_module(name)
    sys.exit(serve(socket.socket(fileno=int(sys.argv[1])), _run))
