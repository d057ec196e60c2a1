"""How many times a second an image is shown."""

from collections.abc import Iterator
from contextlib import ExitStack

from bench.contestants.contestant import Contestant, Images
from bench.contestants.limits import hello
from bench.contestants.select import Select
from bench.databases import POSTGRESQL
from bench.items.documents import shown
from bench.items.labels import connections_of
from bench.run import Item, Run
from bench.table import Table
from bench.usage import watched
from bench.wrk import wrk


def measure(run: Run, table: Table) -> None:
    """Ask for one image with ten properties and three tags."""
    with ExitStack() as stack:
        services = stack.enter_context(run.services())
        contestants: list[Contestant] = [
            *services,
            stack.enter_context(hello(run.new_folder())),
        ]
        documents = stack.enter_context(shown(contestants))
        measured: list[Contestant | Select] = [*contestants]
        measured += _selects(run, services[0], documents["ours"])
        for connections in run.options.connections:

            def one(contestant: Contestant | Select, connections: int = connections) -> None:
                if isinstance(contestant, Select):
                    _select(run, table, contestant, connections)
                else:
                    _one(run, table, contestant, documents[contestant.column], connections)

            run.rounds(table, measured, one)


def _selects(run: Run, service: Images, path: str) -> Iterator[Select]:
    if run.database is not None and run.database.kind == POSTGRESQL and service.database_url:
        yield Select(service.database_url, path.rpartition("/")[2], run.database)


def _select(run: Run, table: Table, select: Select, connections: int) -> None:
    count, usage = select.run(run.options.seconds)
    usage.fill(table, select.column, connections_of(connections), count)


def _one(run: Run, table: Table, contestant: Contestant, path: str, connections: int) -> None:
    with watched(contestant.pid, contestant.database) as usage:
        load = wrk(contestant.address, path, connections, run.options.seconds)
    work, column = connections_of(connections), contestant.column
    table.add(column, work, "rate", "req/s", load.rate)
    usage.fill(table, column, work, load.requests)
    table.add(column, work, "p50", "ms", load.p50 * 1e3)
    table.add(column, work, "p99", "ms", load.p99 * 1e3)


SHOW = Item(
    "show",
    "limit: a Klein app that answers with as many bytes;"
    " select: the one statement that it takes, through psycopg on one connection",
    measure,
)
