"""CPU and memory of a server, and what its database does, while something is measured."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

import attrs

from bench.contestants.ours import serving
from bench.databases import DatabaseServer
from bench.processes import cpu_seconds, resident_mib, tree
from bench.table import Table

SAMPLE_SECONDS = 0.1

T = TypeVar("T")


@attrs.define
class Usage:
    """Filled in when the measurement has ended; None all along for a server without a known pid."""

    cpu: float | None = None
    growth_mib: float | None = None
    database_cpu: float | None = None
    statements: int | None = None
    busiest: float | None = None
    """The CPU of the busiest of several workers, divided by the mean of all."""

    def cpu_per(self, amount: float) -> float | None:
        """Return CPU seconds per unit of `amount`."""
        return None if self.cpu is None or not amount else self.cpu / amount

    def fill(self, table: Table, column: str, work: str, requests: int) -> None:
        """Add to the table what each of the requests cost."""
        cpu, database = self.cpu, self.database_cpu
        table.add(column, work, "server CPU", "ms/req", cpu and cpu * 1e3 / requests)
        table.add(column, work, "database CPU", "ms/req", database and database * 1e3 / requests)
        table.add(column, work, "busiest worker", "of mean", self.busiest)
        statements = self.statements
        table.add(column, work, "statements", "/req", statements and statements / requests)


@contextlib.contextmanager
def watched(pid: int | None, database: DatabaseServer | None = None) -> Iterator[Usage]:
    """Measure the tree of `pid`; `growth_mib` is its highest resident set less the first one."""
    usage = Usage()
    with _watched_database(database, usage), _watched_service(pid, usage):
        yield usage


@contextlib.contextmanager
def _watched_database(database: DatabaseServer | None, usage: Usage) -> Iterator[None]:
    if database is None:
        yield
        return
    statements, cpu = database.statements(), cpu_seconds(tree(database.pid))
    yield
    usage.database_cpu = cpu_seconds(tree(database.pid)) - cpu
    after = database.statements()
    if statements is not None and after is not None:
        usage.statements = after - statements


@contextlib.contextmanager
def _watched_service(pid: int | None, usage: Usage) -> Iterator[None]:
    if pid is None:
        yield
        return
    pids = tree(pid)
    cpu_before = cpu_seconds(pids)
    workers = {worker: cpu_seconds([worker]) for worker in serving(pids[1:])}
    with sampled(lambda: resident_mib(pids)) as samples:
        yield
    usage.cpu = cpu_seconds(tree(pid)) - cpu_before
    if len(workers) > 1:
        used = [cpu_seconds([worker]) - before for worker, before in workers.items()]
        usage.busiest = max(used) * len(used) / sum(used) if sum(used) else None
    usage.growth_mib = max(samples) - samples[0]


@contextlib.contextmanager
def sampled(measure: Callable[[], T]) -> Iterator[list[T]]:
    """Measure at once, ten times a second while the block runs, and at its end."""
    samples = [measure()]
    ended = threading.Event()

    def sample() -> None:
        while not ended.wait(SAMPLE_SECONDS):
            samples.append(measure())

    sampler = threading.Thread(target=sample, daemon=True)
    sampler.start()
    try:
        yield samples
    finally:
        ended.set()
        sampler.join()
        samples.append(measure())
