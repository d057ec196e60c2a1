"""The service as an operator runs it: `imgservice run` in a process of its own."""

import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from functools import cache
from itertools import cycle
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NoReturn

import pytest
import yaml

from imgservice.db.schema.upgrade import upgrade
from tests.real.client import Client
from tests.real.warm import WarmProcess
from tests.summary import count_start

TWISTD = Path(sys.executable).with_name("twistd")
IMGSERVICE = Path(sys.executable).with_name("imgservice")
START_TIME = 120.0
STOP_TIME = 120.0
LOCK_TIME = 60.0
"""Seconds for which we wait for an SQLite database that is being written."""
PORTS = range(10_000, 32_000)
"""Linux gives none of them to a connection that begins here, as far as it is not told to."""
BLOCK = 500
"""Ports that one process of tests has for itself."""


def missing(reason: str) -> NoReturn:
    """Skip the test for want of something; where CI is set everything must be there: fail."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def free_port() -> int:
    """Return a port at which nobody listens, and that stays free until the test listens there."""
    return next(port for port in _own_ports() if _is_free(port))


@cache
def _own_ports() -> Iterator[int]:
    """Return the ports of this process, without end.

    A name that only one process can have keeps other processes of tests from them.
    """
    for first in PORTS[::BLOCK]:
        name = socket.socket(socket.AF_UNIX)
        try:
            name.bind(f"\0imgservice-tests-ports-{first}")
        except OSError:
            name.close()
        else:
            _names.append(name)
            return cycle(range(first, first + BLOCK))
    raise RuntimeError("other processes of tests have all ports")


_names: list[socket.socket] = []


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def wait_until(happened: Any, seconds: float = 60.0) -> None:
    """Poll until `happened()` is true."""
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, f"not within {seconds} seconds: {happened}"
        time.sleep(0.02)


@cache
def empty_database() -> bytes:
    """Return an SQLite database with all tables."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "imgservice.db"
        upgrade(f"sqlite:///{path}")
        return path.read_bytes()


class Service:
    """One service with its own directory, database, store and port; not started when made."""

    def __init__(self, directory: Path, options: Mapping[str, Any] | None = None) -> None:
        self.directory = directory
        self.port = free_port()
        self.store = directory / "images"
        self.database = directory / "imgservice.db"
        self.config = directory / "imgservice.yaml"
        self.output = directory / "output"
        """What it writes to standard output: the log, unless that goes elsewhere."""
        self.said = directory / "said"
        """What it writes to standard error."""
        self.options = self._options(options or {})
        self.log = Path(self.options.get("logging", {}).get("file", self.output))
        self.config.write_text(yaml.safe_dump(self.options, sort_keys=False))
        self.client = Client("127.0.0.1", self.port)
        self.prefix: Sequence[str] = ()
        """A command that starts the command which comes after it."""
        self.command: Sequence[str | Path] = (IMGSERVICE, "run")
        self.environment: Mapping[str, str] = {}
        """What it has besides ours."""
        self.is_cold = False
        """Whether it starts in an interpreter of its own, not as a fork of a warm one."""
        self._process: subprocess.Popen[bytes] | WarmProcess | None = None

    def _options(self, more: Mapping[str, Any]) -> dict[str, Any]:
        server = {"listen": [f"tcp:{self.port}:interface=127.0.0.1"], **more.get("server", {})}
        return {
            "database": {"url": f"sqlite:///{self.database}"},
            "stores": {"local": {"type": "file", "path": str(self.store)}},
            **more,
            "server": server,
        }

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def make_tables(self) -> None:
        """Make its database if there is none, as it would itself, in less time."""
        own = self.options["database"]["url"] == f"sqlite:///{self.database}"
        if own and not self.database.exists():
            self.database.write_bytes(empty_database())

    # -- the process ------------------------------------------------------------------------------

    def start(self) -> "Service":
        """Start it and wait until it answers."""
        count_start("service")
        command = [str(each) for each in (*self.prefix, *self.command, "--config", self.config)]
        environment = {**os.environ, **self.environment}
        nothing = Path(os.devnull)
        with self.output.open("ab") as output, self.said.open("ab") as said, nothing.open() as none:
            if command[0] == str(IMGSERVICE) and not self.is_cold:
                files = [file.fileno() for file in (none, output, said)]
                has_workers = bool(self.options["server"].get("workers"))
                self._process = WarmProcess(
                    command, self.directory, environment, files, has_workers
                )
            else:
                self._process = subprocess.Popen(
                    command, cwd=self.directory, env=environment, stdout=output, stderr=said
                )
        deadline = time.monotonic() + START_TIME
        while not self._answers():
            assert self._process.poll() is None, self.said.read_text()
            assert time.monotonic() < deadline, "the service does not answer"
            time.sleep(0.02)
        return self

    def _answers(self) -> bool:
        """Tell whether a connection is not only made, which the kernel does, but also looked at.

        Before that a signal would end it without any of what it does at its end.
        """
        with socket.socket() as probe:
            probe.settimeout(START_TIME)
            if probe.connect_ex(("127.0.0.1", self.port)) != 0:
                return False
            probe.shutdown(socket.SHUT_WR)
            with suppress(ConnectionResetError):
                probe.recv(1)
            return True

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def wait(self, seconds: float = STOP_TIME) -> int:
        """Wait for the process to end, and return its exit code."""
        assert self._process is not None
        return self._process.wait(seconds)

    def kill(self) -> None:
        """End it as a power failure would."""
        self.signal(signal.SIGKILL)
        self.wait()

    def stop(self) -> None:
        """Ask it to end, and see that it leaves nothing behind."""
        self.signal(signal.SIGTERM)
        # It ends by the signal that stopped it, after everything else: a success for systemd.
        assert self.wait() == -signal.SIGTERM, self.log.read_text()[-2000:]
        assert "Server Shut Down." in self.log.read_text()
        self.assert_clean()

    def end(self) -> None:
        """Make sure that no process is left, however the test ended."""
        if self._process is not None and self._process.poll() is None:
            self.kill()

    def measure(self, field: str) -> int:
        """Return a value in KiB of /proc/PID/status, such as VmRSS or VmHWM."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1])
        raise KeyError(field)

    def cpu_seconds(self) -> float:
        """Return how much of the processor's time the process has used so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def written(self) -> int:
        """Return how many bytes the process has handed to `write` and its kin so far."""
        fields = dict(
            line.split(": ") for line in Path(f"/proc/{self.pid}/io").read_text().splitlines()
        )
        return int(fields["wchar"])

    def descriptors(self) -> int:
        """Count what the process has open, but for the database: its threads start by and by."""
        targets = []
        for entry in Path(f"/proc/{self.pid}/fd").iterdir():
            with suppress(FileNotFoundError):  # closed meanwhile
                targets.append(str(entry.readlink()))
        return sum(not target.startswith(str(self.database)) for target in targets)

    # -- what it keeps ----------------------------------------------------------------------------

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        with closing(self._opened_database()) as connection:
            return connection.execute(query, values).fetchall()

    def _opened_database(self) -> sqlite3.Connection:
        return sqlite3.connect(f"file:{self.database}?mode=ro", LOCK_TIME, uri=True)

    def is_at_rest(self) -> bool:
        """Tell whether no work with data is under way."""
        return not self.rows("SELECT id FROM imgsvc_leases")

    def everything(self) -> Any:
        """Return all of the database but `updated_at`, and all files, to compare with later."""
        columns = self.rows(
            "SELECT m.name, group_concat(c.name) FROM sqlite_master m, pragma_table_info(m.name) c"
            " WHERE m.type = 'table' AND c.name != 'updated_at' GROUP BY m.name"
        )
        query = "SELECT {} FROM {} ORDER BY 1"
        return {table: self.rows(query.format(names, table)) for table, names in columns}, (
            self.files()
        )

    def files(self) -> dict[str, int]:
        """Return the names in the store's directory, hidden ones too, with their sizes."""
        return {path.name: path.lstat().st_size for path in self.store.iterdir()}

    def assert_clean(self) -> None:
        """See that no work is half done: in the log, the database and the store."""
        log = self.log.read_text()
        assert "Traceback" not in log, log[log.index("Traceback") - 200 :]
        assert self.rows("SELECT id, status FROM images WHERE status = 'saving'") == []
        assert self.rows("SELECT * FROM imgsvc_leases") == []
        with_data = self.rows("SELECT id FROM images WHERE status IN ('active', 'deactivated')")
        assert set(self.files()) == {image_id for (image_id,) in with_data}


@contextmanager
def running(directory: Path, options: Mapping[str, Any] | None = None) -> Iterator[Service]:
    """Run a service while the block runs, then stop it and see that it leaves nothing behind."""
    service = Service(directory, options)
    service.make_tables()
    try:
        yield service.start()
        service.stop()
    finally:
        service.end()
