"""How many images a second are created, and deleted again."""

import time
from collections.abc import Iterator
from contextlib import ExitStack

import attrs

from bench.contestants.contestant import Contestant, creation, id_in
from bench.contestants.limits import hello
from bench.errors import Wrong
from bench.hammer import Outcome, hammer, percentile, until
from bench.items.labels import connections_of
from bench.run import Item, Run
from bench.table import Table
from bench.usage import watched

NEW: dict[str, object] = {"tags": ["one"], "property_1": "1", "property_2": "2", "property_3": "3"}


def measure(run: Run, table: Table) -> None:
    """Create for some seconds, then delete all that was created."""
    with ExitStack() as stack:
        services = stack.enter_context(run.services())
        limit = stack.enter_context(hello(run.new_folder()))
        for connections in run.options.writing_connections:

            def one(contestant: Contestant, connections: int = connections) -> None:
                writing = _Writing(run, table, contestant, connections)
                writing.delete(writing.create())

            run.rounds(table, [*services, limit], one)


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

    def _measured(self, verb: str, requests: Iterator[bytes], expected: int) -> Outcome:
        with watched(self.contestant.pid) as usage:
            outcome = hammer(self.contestant.address, requests, self.connections)
        if set(outcome.statuses) != {expected}:
            raise Wrong(f"{verb} was answered {dict(outcome.statuses)}, not {expected} each time")
        if outcome.client_bound:
            self.run.report.remark(
                f"{verb}: the client was busy more than 80 % of the time with"
                f" {self.contestant.column}, whose rate may be higher than shown"
            )
        self._add(verb, outcome, usage.cpu_per(len(outcome.latencies)))
        return outcome

    def _add(self, verb: str, outcome: Outcome, cpu: float | None) -> None:
        work = f"{verb}, {connections_of(self.connections)}"
        column, add = self.contestant.column, self.table.add
        add(column, work, "rate", "req/s", outcome.rate)
        add(column, work, "server CPU", "ms/req", None if cpu is None else cpu * 1e3)
        add(column, work, "p99", "ms", percentile(outcome.latencies, 0.99) * 1e3)


WRITE = Item(
    "write",
    "limit: a Klein app that reads the request and answers at once",
    measure,
)
