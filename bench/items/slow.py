"""Many slow downloads, and whether `show` stays quick."""

import time
from contextlib import ExitStack

from bench.background import meanwhile
from bench.contestants.contestant import Contestant
from bench.contestants.nginx import nginx
from bench.crowd import Crowd
from bench.items.documents import shown
from bench.items.download import stored
from bench.probe import probe
from bench.run import Item, Run
from bench.table import Table
from bench.units import MIB
from bench.usage import watched

CLIENTS = 200
PER_SECOND = 1_000_000
SIZE = 64 * MIB
STARTING_SECONDS = 1.0
"""All clients begin in one moment; what is asked is how quick `show` is beside them, later."""
SETTLING_SECONDS = 0.5


def measure(run: Run, table: Table) -> None:
    """Let all clients read one image at 1 MB/s each."""
    with ExitStack() as stack:
        contestants: list[Contestant] = [
            *stack.enter_context(run.services()),
            stack.enter_context(nginx(run.new_folder())),
        ]
        documents = stack.enter_context(shown(contestants))
        files = stack.enter_context(stored(run, contestants, SIZE))

        def one(contestant: Contestant) -> None:
            column = contestant.column
            _one(run, table, contestant, files[column], documents[column])

        run.rounds(table, contestants, one, run.options.long_rounds)


def _one(run: Run, table: Table, contestant: Contestant, file: str, document: str) -> None:
    crowd = Crowd(contestant.address, file, CLIENTS, PER_SECOND)
    with watched(contestant.pid) as usage, meanwhile([crowd.run]):
        time.sleep(STARTING_SECONDS)
        seen = probe(contestant.address, document, run.options.watch_seconds)
    column, work = contestant.column, f"{CLIENTS} at 1 MB/s"
    table.add(column, work, "served at that rate", "clients", crowd.served)
    table.add(column, work, "all together", "MB/s", crowd.rate / 1e6)
    seen.fill(table, column, work)
    table.add(column, work, "server CPU", "cores", usage.cpu_per(crowd.seconds))
    table.add(column, work, "memory growth", "MiB", usage.growth_mib)
    if seen.complaint:
        run.failed(table, contestant, seen.complaint)
    time.sleep(SETTLING_SECONDS)


SLOW = Item("slow", "limit: nginx with sendfile, and a static file for show", measure)
