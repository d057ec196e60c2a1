"""What the proof of who is asking costs: `show` with a token of Keystone, and without one."""

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import attrs

from bench.contestants.contestant import Contestant, Images
from bench.contestants.ours import running
from bench.errors import LeftOut
from bench.items.documents import shown
from bench.items.labels import connections_of
from bench.run import Item, Run
from bench.table import Table
from bench.usage import watched
from bench.wrk import wrk
from tests.keystone import Keystone, is_installed, started

# One address sends more here than anybody may without being told to wait.
LIMITS = {"rate": {"address": {"exempt": ["127.0.0.1"]}}}


def measure(run: Run, table: Table) -> None:
    """Ask for one image with a token that is remembered."""
    if not is_installed():
        raise LeftOut("there is no Keystone (tests/install-openstack)")
    with contextlib.ExitStack() as stack:
        keystone = stack.enter_context(started(run.new_folder()))
        contestants = [
            stack.enter_context(_service(run, "ours", keystone)),
            stack.enter_context(_service(run, "limit", None)),
        ]
        documents = stack.enter_context(shown(contestants))
        for connections in run.options.connections:

            def one(contestant: Contestant, connections: int = connections) -> None:
                _one(run, table, contestant, documents[contestant.column], connections)

            run.rounds(table, contestants, one)


@contextlib.contextmanager
def _service(run: Run, column: str, keystone: Keystone | None) -> Iterator[Images]:
    installation = run.installed()
    options: dict[str, Any] = {"limits": LIMITS}
    token = None
    if keystone is not None:
        options["auth"] = keystone.auth()
        token = keystone.token("admin", "admin")
    file = installation.folder / "bench.yaml"
    file.write_text(json.dumps({**json.loads(file.read_text()), **options}, indent=2))
    with running(installation) as process:
        address = attrs.evolve(installation.address, token=token)
        yield Images(column, address, process.pid, run.database)


def _one(run: Run, table: Table, contestant: Contestant, path: str, connections: int) -> None:
    with watched(contestant.pid, contestant.database) as usage:
        load = wrk(contestant.address, path, connections, run.options.seconds)
    work, column = connections_of(connections), contestant.column
    table.add(column, work, "rate", "req/s", load.rate)
    usage.fill(table, column, work, load.requests)
    table.add(column, work, "p99", "ms", load.p99 * 1e3)


KEYSTONE = Item("keystone", "limit: imgservice with auth.mode none", measure)
