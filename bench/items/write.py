"""How many images a second are created, changed, and deleted again."""

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import attrs

from bench.address import Address, ask
from bench.contestants.contestant import Contestant, creation, id_in, kept
from bench.contestants.limits import hello
from bench.errors import Wrong
from bench.hammer import Outcome, hammer, percentile, until
from bench.items.labels import connections_of
from bench.run import Item, Run
from bench.table import Table
from bench.usage import Usage, watched

NEW: dict[str, object] = {"tags": ["one"], "property_1": "1", "property_2": "2", "property_3": "3"}

CHANGED_IMAGES = 64
PATCH_TYPE = "application/openstack-images-v2.1-json-patch"


def measure(run: Run, table: Table) -> None:
    """Create for some seconds, then delete all that was created."""
    with ExitStack() as stack:
        contestants: list[Contestant] = [
            *stack.enter_context(run.services()),
            stack.enter_context(hello(run.new_folder())),
        ]
        for connections in run.options.writing_connections:

            def one(contestant: Contestant, connections: int = connections) -> None:
                writing = _Writing(run, table, contestant, connections)
                writing.delete(writing.create())

            run.rounds(table, contestants, one)


def measure_patches(run: Run, table: Table) -> None:
    """Change some images again and again, on one connection and on many."""
    with ExitStack() as stack:
        contestants: list[Contestant] = [
            *stack.enter_context(run.services()),
            stack.enter_context(hello(run.new_folder())),
        ]
        ids = {each.column: stack.enter_context(_changeable(each)) for each in contestants}
        for connections in run.options.writing_connections:

            def one(contestant: Contestant, connections: int = connections) -> None:
                writing = _Writing(run, table, contestant, connections)
                writing.patch(ids[contestant.column])

            run.rounds(table, contestants, one)


@contextmanager
def _changeable(contestant: Contestant) -> Iterator[list[str]]:
    """Yield the ids of images, more than there are connections; remove them in the end."""
    address = contestant.address
    with ExitStack() as stack:
        ids = []
        for _ in range(CHANGED_IMAGES):
            status, body = ask(address, creation(address, NEW))
            if status != 201:
                raise Wrong(f"POST /v2/images was answered {status} {body[:200]!r}")
            ids.append(id_in(body))
            stack.enter_context(kept(contestant, f"/v2/images/{ids[-1]}"))
        yield ids


@attrs.frozen
class _Writing:
    run: Run
    table: Table
    contestant: Contestant
    connections: int

    def create(self) -> list[str]:
        """Return the ids of the new images."""
        request = creation(self.contestant.address, NEW)
        deadline = time.monotonic() + self.run.options.seconds
        outcome = self._measured("create", until(deadline, request), 201)
        return [id_in(body) for body in outcome.bodies]

    def delete(self, ids: list[str]) -> None:
        address = self.contestant.address
        requests = [address.request("DELETE", f"/v2/images/{image_id}") for image_id in ids]
        self._measured("delete", iter(requests), 204)

    def patch(self, ids: list[str]) -> None:
        """Change the name and a property of one image after the other."""
        address = self.contestant.address
        deadline = time.monotonic() + self.run.options.seconds
        self._measured("patch", _patches(address, ids, deadline), 200)

    def _measured(self, verb: str, requests: Iterator[bytes], expected: int) -> Outcome:
        with watched(self.contestant.pid, self.contestant.database) as usage:
            outcome = hammer(self.contestant.address, requests, self.connections)
        if set(outcome.statuses) != {expected}:
            raise Wrong(f"{verb} was answered {dict(outcome.statuses)}, not {expected} each time")
        if outcome.client_bound:
            self.run.report.remark(
                f"{verb}: the client was busy more than 80 % of the time with"
                f" {self.contestant.column}, whose rate may be higher than shown"
            )
        self._add(verb, outcome, usage)
        return outcome

    def _add(self, verb: str, outcome: Outcome, usage: Usage) -> None:
        work = f"{verb}, {connections_of(self.connections)}"
        column, add = self.contestant.column, self.table.add
        add(column, work, "rate", "req/s", outcome.rate)
        usage.fill(self.table, column, work, len(outcome.latencies))
        add(column, work, "p99", "ms", percentile(outcome.latencies, 0.99) * 1e3)


def _patches(address: Address, ids: list[str], deadline: float) -> Iterator[bytes]:
    number = 0
    while time.monotonic() < deadline:
        changes = [
            {"op": "replace", "path": "/name", "value": f"bench {number}"},
            {"op": "add", "path": "/property_1", "value": str(number)},
        ]
        path = f"/v2/images/{ids[number % len(ids)]}"
        yield address.request("PATCH", path, json.dumps(changes).encode(), Content_Type=PATCH_TYPE)
        number += 1


WRITE = Item(
    "write",
    "limit: a Klein app that reads the request and answers at once",
    measure,
)
PATCH = Item(
    "patch",
    "limit: a Klein app that reads the request and answers with an image of the same size",
    measure_patches,
)
