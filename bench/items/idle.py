"""Connections that wait: what they cost, and whether they still work."""

import resource
import socket
import time
from contextlib import ExitStack, suppress

from bench.address import exchange
from bench.contestants.contestant import Contestant
from bench.contestants.nginx import nginx
from bench.errors import LeftOut, Wrong
from bench.items.documents import shown
from bench.items.labels import connections_of
from bench.run import Item, Run
from bench.table import Table
from bench.usage import watched

WAITING_SECONDS = 2.0
OTHER_DESCRIPTORS = 200


def measure(run: Run, table: Table) -> None:
    """Open many connections, ask once on each, wait, and ask again."""
    count = run.options.idle_connections
    check_limit(count)
    with ExitStack() as stack:
        contestants: list[Contestant] = [
            *stack.enter_context(run.services()),
            stack.enter_context(nginx(run.new_folder())),
        ]
        documents = stack.enter_context(shown(contestants))

        def one(contestant: Contestant) -> None:
            _one(run, table, contestant, documents[contestant.column], count)

        # Once: a second round would find the memory that the first one has freed.
        run.rounds(table, contestants, one, count=1)


def check_limit(count: int) -> None:
    """`LeftOut` when we may not open so many connections."""
    if resource.getrlimit(resource.RLIMIT_NOFILE)[0] < count + OTHER_DESCRIPTORS:
        raise LeftOut(f"{count} connections need a higher limit of open files (ulimit -Hn)")


def _one(run: Run, table: Table, contestant: Contestant, document: str, count: int) -> None:
    request = contestant.address.request("GET", document)
    connections: list[socket.socket] = []
    with ExitStack() as stack:
        with watched(contestant.pid) as usage:
            for _ in range(count):
                connections.append(stack.enter_context(contestant.address.connect()))
                exchange(connections[-1], request)
            time.sleep(WAITING_SECONDS)
        answered = sum(answers(connection, request) for connection in connections)
    column, work = contestant.column, connections_of(count)
    table.add(column, work, "answered after waiting", "", answered)
    table.add(column, work, "memory growth", "MiB", usage.growth_mib)
    if answered < count:
        run.failed(table, contestant, f"only {answered} of {count} idle connections still worked")


def answers(connection: socket.socket, request: bytes) -> bool:
    """Tell whether the connection still works."""
    with suppress(OSError, Wrong):
        return exchange(connection, request)[0] == 200
    return False


IDLE = Item("idle", "limit: nginx and a static file", measure)
