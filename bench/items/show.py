"""How many times a second an image is shown."""

from contextlib import ExitStack

from bench.contestants.contestant import Contestant
from bench.contestants.limits import hello
from bench.items.documents import shown
from bench.items.labels import connections_of
from bench.run import Item, Run
from bench.table import Table
from bench.usage import watched
from bench.wrk import wrk


def measure(run: Run, table: Table) -> None:
    """Ask for one image with ten properties and three tags."""
    with ExitStack() as stack:
        contestants: list[Contestant] = [
            *stack.enter_context(run.services()),
            stack.enter_context(hello(run.new_folder())),
        ]
        documents = stack.enter_context(shown(contestants))
        for connections in run.options.connections:

            def one(contestant: Contestant, connections: int = connections) -> None:
                _one(run, table, contestant, documents[contestant.column], connections)

            run.rounds(table, contestants, one)


def _one(run: Run, table: Table, contestant: Contestant, path: str, connections: int) -> None:
    with watched(contestant.pid) as usage:
        load = wrk(contestant.address, path, connections, run.options.seconds)
    work, column = connections_of(connections), contestant.column
    cpu = usage.cpu_per(load.requests)
    table.add(column, work, "rate", "req/s", load.rate)
    table.add(column, work, "server CPU", "ms/req", None if cpu is None else cpu * 1e3)
    table.add(column, work, "p50", "ms", load.p50 * 1e3)
    table.add(column, work, "p99", "ms", load.p99 * 1e3)


SHOW = Item("show", "limit: a Klein app that answers with as many bytes", measure)
