"""imgservice itself, started in a folder of its own."""

import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import attrs

from bench.address import LOOPBACK, Address, free_port
from bench.contestants.certificate import Certificate
from bench.contestants.contestant import POLL_SECONDS, STARTING_SECONDS, Images, wait_for
from bench.contestants.limits import program
from bench.databases import Own
from bench.errors import Wrong
from bench.processes import Process, started, title

NAME = "imgservice"
DATABASE = "imgservice.db"
"""In the folder of the installation."""
FORK_SERVER = "imgservice-fork-server"
"""What the process that forks workers calls itself."""
STATE = Path("var", "imgservice.state")
"""Likewise."""


@attrs.frozen
class Installation:
    """A configuration file, and the address at which the service will listen."""

    folder: Path
    address: Address
    database: str | None = attrs.field(default=None, repr=False)
    """Its URL, None for SQLite."""
    workers: int = 0
    runner: tuple[str, ...] = ()
    """What runs the program, if not Python by itself."""

    @property
    def argv(self) -> list[str]:
        """What starts the service in the foreground."""
        twistd = Path(sys.executable).with_name("twistd")
        options = ["--nodaemon", "--pidfile=", NAME, "--config", str(self.folder / "bench.yaml")]
        return [*self.runner, str(twistd), *options]


def installed(
    folder: Path,
    certificate: Certificate | None = None,
    auth: str = "none",
    database: str | None = None,
    workers: int = 0,
) -> Installation:
    """Write the configuration: a file store, and a line for each request.

    `database` is a URL; None is SQLite.
    """
    folder.mkdir(parents=True)
    port = free_port()
    server: dict[str, object] = {
        "listen": [f"tcp:{port}:interface={LOOPBACK}"],
        "workers": workers,
    }
    if certificate:
        server["tls"] = {"certificate": str(certificate.file), "key": str(certificate.key)}
    configuration = {
        "server": server,
        "auth": {"mode": auth},
        "database": {"url": database or f"sqlite:///{folder / DATABASE}"},
        "stores": {"local": {"type": "file", "path": str(folder / "images")}},
        "default_store": "local",
        "logging": {"access": True},
    }
    # JSON is YAML too.
    (folder / "bench.yaml").write_text(json.dumps(configuration, indent=2))
    trusted = certificate.file if certificate else None
    return Installation(folder, Address(LOOPBACK, port, certificate=trusted), database, workers)


@contextlib.contextmanager
def running(installation: Installation) -> Iterator[Process]:
    """Start the service; wait until all of it serves, and for its list of versions."""
    with started(installation.argv, NAME, installation.folder) as process:
        status = wait_for(installation.address, process)
        if status not in (200, 300):
            raise Wrong(f"GET /versions was answered {status}")
        try:
            wait_for_generation(installation, 1, lambda: process.ended)
        except Wrong as error:
            raise Wrong(f"{error}:\n{process.last_words}") from None
        yield process


def wait_for_generation(
    installation: Installation, generation: int, has_ended: Callable[[], bool] = lambda: False
) -> None:
    """Wait until all processes serve with that configuration."""
    deadline = time.monotonic() + STARTING_SECONDS
    while not serves(installation, generation):
        if has_ended() or time.monotonic() > deadline:
            raise Wrong(f"not all of {NAME} came to serve")
        time.sleep(POLL_SECONDS)


def serving(pids: Iterable[int]) -> list[int]:
    """Return the processes that serve, beside which there may be one that forks them."""
    return [pid for pid in pids if title(pid) != FORK_SERVER]


def serves(installation: Installation, generation: int) -> bool:
    """Tell whether the service consists of its workers, all with this configuration."""
    file = installation.folder / STATE
    workers = json.loads(file.read_bytes())["workers"] if file.exists() else []
    found = [(one["state"], one["generation"]) for one in workers if one["state"] != "retiring"]
    return found == [("ready", generation)] * max(1, installation.workers)


def sampled(installation: Installation) -> tuple[Installation, Path]:
    """Return the same, to be started as a program that samples itself, and where it will write."""
    stacks = installation.folder / "stacks"
    return attrs.evolve(installation, runner=tuple(program("sampled", str(stacks)))), stacks


@contextlib.contextmanager
def ours(
    installation: Installation, server: Own | None = None, column: str = "ours"
) -> Iterator[Images]:
    """Start the service; stop it in the end. `server` is that of its database."""
    with running(installation) as process:
        database = installation.database
        yield Images(column, installation.address, process.pid, server, database)
