"""Very many idle connections, beside a client that sends requests and during a reload."""

import os
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import attrs

from bench.address import exchange
from bench.contestants.contestant import Contestant, kept
from bench.contestants.nginx import nginx
from bench.contestants.ours import Installation, ours, serves, serving
from bench.errors import Wrong
from bench.items.idle import answers, check_limit
from bench.items.labels import connections_of
from bench.probe import probe
from bench.processes import proportional_mib, sockets, tree
from bench.run import Item, Run
from bench.table import Table

DOCUMENT = 1024
"""Bytes, where they can be chosen: about what an image is."""
FROM_ONE_ADDRESS = 1000
POLL_SECONDS = 0.02
PATIENCE_SECONDS = 60


def measure(run: Run, table: Table) -> None:
    """Measure one contestant after the other: there is no room for several crowds."""
    check_limit(run.options.crowd_connections)
    for column, installation in run.variants():
        with ours(installation, run.database, column) as service:
            _one(run, table, service, installation)
    with nginx(run.new_folder()) as limit:
        _one(run, table, limit, None)


def _one(run: Run, table: Table, contestant: Contestant, installation: Installation | None) -> None:
    with kept(contestant, contestant.document(DOCUMENT)) as document:
        crowd = _Crowd(run, table, contestant, document)
        with crowd.present():
            crowd.ask_beside("waiting")
            if installation is not None:
                crowd.reload(installation)
                crowd.ask_all("after a reload")
            else:
                crowd.ask_all("after waiting")


@attrs.frozen
class _Crowd:
    _run: Run
    _table: Table
    _contestant: Contestant
    _document: str
    _connections: list[socket.socket] = attrs.field(factory=list, init=False)

    @contextmanager
    def present(self) -> Iterator[None]:
        """Let all of them come, from several addresses, and ask once on each."""
        before = self._memory()
        with ExitStack() as stack:
            for number in range(self._run.options.crowd_connections):
                source = f"127.0.0.{2 + number // FROM_ONE_ADDRESS}"
                connection = stack.enter_context(self._contestant.address.connect(source))
                self._connections.append(connection)
                exchange(connection, self._request)
            each = (self._memory() - before) * 1024 / len(self._connections)
            self._add("waiting", "memory of each", "KiB", each)
            self._add_spread("waiting")
            yield

    def ask_beside(self, work: str) -> None:
        """Ask for one image again and again, on other connections."""
        address, seconds = self._contestant.address, self._run.options.watch_seconds
        seen = probe(address, self._document, seconds)
        seen.fill(self._table, self._contestant.column, self._named(work))
        if seen.complaint:
            self._run.failed(self._table, self._contestant, seen.complaint)

    def reload(self, installation: Installation) -> None:
        """Reload the service while a client sends requests."""
        with ThreadPoolExecutor(1) as executor:
            asking = executor.submit(self.ask_beside, "reload")
            begin = time.monotonic()
            os.kill(self._pid, signal.SIGHUP)
            self._wait_for_successors(installation)
            self._add("reload", "until all are handed over", "s", time.monotonic() - begin)
            asking.result()
        self._add_spread("reload")

    def ask_all(self, work: str) -> None:
        """Ask on every connection."""
        count = len(self._connections)
        lost = count - sum(answers(each, self._request) for each in self._connections)
        self._add(work, "connections lost", "", lost)
        if lost:
            what = f"{lost} of {count} connections did not work {work}"
            self._run.failed(self._table, self._contestant, what)

    def _wait_for_successors(self, installation: Installation) -> None:
        """Without workers, the file that tells is a second late at the most."""
        before = {*serving(tree(self._pid)[1:])}
        deadline = time.monotonic() + PATIENCE_SECONDS
        while before & {*tree(self._pid)} if before else not serves(installation, generation=2):
            if time.monotonic() > deadline:
                raise Wrong(f"a reload took more than {PATIENCE_SECONDS} s")
            time.sleep(POLL_SECONDS)

    def _memory(self) -> float:
        return proportional_mib(tree(self._pid))

    def _add_spread(self, work: str) -> None:
        held = [sockets(worker) for worker in tree(self._pid)[1:]]
        if len(held) > 1:
            self._add(work, "busiest worker has", "of mean", max(held) * len(held) / sum(held))

    def _add(self, work: str, measure: str, unit: str, value: float) -> None:
        self._table.add(self._contestant.column, self._named(work), measure, unit, value)

    def _named(self, work: str) -> str:
        return f"{connections_of(self._run.options.crowd_connections)}, {work}"

    @property
    def _pid(self) -> int:
        assert self._contestant.pid is not None
        return self._contestant.pid

    @property
    def _request(self) -> bytes:
        return self._contestant.address.request("GET", self._document)


CROWD = Item("crowd", "limit: nginx and a static file, without a reload", measure)
