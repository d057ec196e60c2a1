"""How long imgservice takes to its first answer, and what it occupies then."""

import os
import signal
import time

from bench.contestants.limits import IMPORTED, hello
from bench.contestants.ours import Installation, running, serving, wait_for_generation
from bench.processes import cpu_seconds, private_mib, proportional_mib, tree
from bench.run import Item, Run
from bench.table import Table

SETTLING_SECONDS = 0.5
NEXT_START = "next start"


def measure(run: Run, table: Table) -> None:
    """Start everything from nothing in each round: there are no contestants that stay."""
    for _ in range(run.options.rounds):
        for column, installation in run.variants():
            _ours(table, column, installation, "first start")
            _ours(table, column, installation, NEXT_START)
        _limit(run, table)


def _ours(table: Table, column: str, installation: Installation, work: str) -> None:
    begin = time.monotonic()
    with running(installation) as process:
        _add(table, column, work, begin, process.pid)
        if work == NEXT_START:
            _add_parts(table, column, process.pid)
            _reload(table, column, installation, process.pid)


def _limit(run: Run, table: Table) -> None:
    begin = time.monotonic()
    with hello(run.new_folder(), modules=IMPORTED) as contestant:
        assert contestant.pid
        _add(table, contestant.column, NEXT_START, begin, contestant.pid)


def _add(table: Table, column: str, work: str, begin: float, pid: int) -> None:
    seconds = time.monotonic() - begin
    time.sleep(SETTLING_SECONDS)
    table.add(column, work, "exec to readiness", "s", seconds)
    table.add(column, work, "CPU", "s", cpu_seconds(tree(pid)))
    table.add(column, work, "idle memory (PSS)", "MiB", proportional_mib(tree(pid)))


def _add_parts(table: Table, column: str, root: int) -> None:
    """Add what processes of each kind have used, on average."""
    others = tree(root)[1:]
    workers = serving(others)
    for kind, pids in (
        ("main process" if not others else "parent", [root]),
        ("fork server", [pid for pid in others if pid not in workers]),
        ("each worker", workers),
    ):
        if pids:
            table.add(column, kind, "CPU", "s", cpu_seconds(pids) / len(pids))
            table.add(column, kind, "PSS", "MiB", proportional_mib(pids) / len(pids))
            table.add(column, kind, "private", "MiB", private_mib(pids) / len(pids))


def _reload(table: Table, column: str, installation: Installation, root: int) -> None:
    before, begin = cpu_seconds(tree(root)), time.monotonic()
    os.kill(root, signal.SIGHUP)
    wait_for_generation(installation, generation=2)
    table.add(column, "reload", "until all serve", "s", time.monotonic() - begin)
    time.sleep(SETTLING_SECONDS)
    table.add(column, "reload", "CPU", "s", cpu_seconds(tree(root)) - before)


STARTUP = Item(
    "startup",
    "first start: the database is made; limit: a Klein hello that imports "
    + ", ".join(IMPORTED)
    + " and nothing of ours",
    measure,
)
