"""How long imgservice takes to its first answer, and what it occupies then."""

import time

from bench.contestants.limits import IMPORTED, hello
from bench.contestants.ours import Installation, running
from bench.processes import cpu_seconds, proportional_mib, tree
from bench.run import Item, Run
from bench.table import Table

SETTLING_SECONDS = 0.5


def measure(run: Run, table: Table) -> None:
    """Start everything from nothing in each round: there are no contestants that stay."""
    for _ in range(run.options.rounds):
        for column, installation in run.variants():
            _ours(table, column, installation, "first start")
            _ours(table, column, installation, "next start")
        _limit(run, table)


def _ours(table: Table, column: str, installation: Installation, work: str) -> None:
    begin = time.monotonic()
    with running(installation) as process:
        _add(table, column, work, begin, process.pid)


def _limit(run: Run, table: Table) -> None:
    begin = time.monotonic()
    with hello(run.new_folder(), modules=IMPORTED) as contestant:
        assert contestant.pid
        _add(table, contestant.column, "next start", begin, contestant.pid)


def _add(table: Table, column: str, work: str, begin: float, pid: int) -> None:
    seconds = time.monotonic() - begin
    time.sleep(SETTLING_SECONDS)
    pids = tree(pid)
    table.add(column, work, "exec to readiness", "s", seconds)
    table.add(column, work, "CPU", "s", cpu_seconds(pids))
    table.add(column, work, "idle memory (PSS)", "MiB", proportional_mib(pids))
    if workers := pids[1:]:
        each = proportional_mib(workers) / len(workers)
        table.add(column, work, "that of a worker", "MiB", each)


STARTUP = Item(
    "startup",
    "first start: the database is made; limit: a Klein hello that imports "
    + ", ".join(IMPORTED)
    + " and nothing of ours",
    measure,
)
