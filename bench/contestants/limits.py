"""Starting the limits that are programs of the benchmark."""

import contextlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.address import LOOPBACK, Address, free_port
from bench.contestants.certificate import Certificate
from bench.contestants.contestant import Plain, wait_for
from bench.processes import started

PROGRAMS = Path(__file__).parent
# What imgservice cannot start without: the start of a service that only imports these, and
# answers, is the limit of its start.
IMPORTED = ("sqlalchemy", "yaml", "attrs", "orjson")


@contextlib.contextmanager
def hello(folder: Path, modules: Sequence[str] = ()) -> Iterator[Plain]:
    """Start a Klein app that does nothing, after importing the modules."""
    address = Address(LOOPBACK, free_port())
    argv = program("klein_hello", str(address.port), *modules)
    folder.mkdir(parents=True)
    with started(argv, "klein_hello", folder) as process:
        wait_for(address, process)
        yield Plain("limit", address, process.pid)


@contextlib.contextmanager
def sink(
    folder: Path, mode: str, column: str, certificate: Certificate | None = None
) -> Iterator[Plain]:
    """Start a socket sink; `mode` is "keep" or "drop"."""
    trusted = certificate.file if certificate else None
    address = Address(LOOPBACK, free_port(), certificate=trusted)
    pem = [str(certificate.file), str(certificate.key)] if certificate else []
    argv = program("sink", str(address.port), mode, str(folder), *pem)
    folder.mkdir(parents=True)
    with started(argv, "sink", folder) as process:
        wait_for(address, process)
        yield Plain(column, address, process.pid)


def program(name: str, *arguments: str) -> list[str]:
    """Return what runs one of the programs in this folder."""
    # -P: their folder must not become a place to import from.
    return [sys.executable, "-P", str(PROGRAMS / f"{name}.py"), *arguments]
