"""What transfers take of memory, and what is left of that some time later."""

import time
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial

import attrs

from bench.contestants.contestant import Contestant, kept
from bench.processes import proportional_mib, tree
from bench.run import Item, Run
from bench.table import Table
from bench.transfer import download, together, upload
from bench.units import MIB
from bench.usage import sampled

UPLOADS = 64
"""At the same time."""
SIZE = 4 * MIB
ROUNDS = 3
Sizes = Sequence[float]
"""MiB of each process."""


def measure(run: Run, table: Table) -> None:
    """Measure all services when idle, load one after the other, and wait for all at once."""
    with run.services() as services:
        watched = [_Watched(run, table, one, one.pid) for one in services if one.pid is not None]
        for one in watched:
            one.add("idle", one.sizes())
        run.rounds(table, watched, _Watched.load, count=1)
        time.sleep(run.options.memory_seconds)
        for one in watched:
            one.add(f"{run.options.memory_seconds:g} s later", one.sizes())


@attrs.frozen
class _Watched:
    """A service, and its processes when it was idle."""

    _run: Run
    _table: Table
    _contestant: Contestant
    _root: int
    _pids: Sequence[int] = attrs.field(init=False)

    @_pids.default
    def _tree(self) -> Sequence[int]:
        return tree(self._root)

    @property
    def column(self) -> str:
        return self._contestant.column

    def sizes(self) -> Sizes:
        return [proportional_mib([pid]) for pid in self._pids]

    def load(self) -> None:
        """Upload and download in rounds."""
        with sampled(self.sizes) as samples:
            for _ in range(ROUNDS):
                self._round()
        self.add("peak", [max(sizes) for sizes in zip(*samples, strict=True)])

    def _round(self) -> None:
        address, payload = self._contestant.address, self._run.payload
        with ExitStack() as stack:
            paths = [
                stack.enter_context(kept(self._contestant, self._contestant.place()))
                for _ in range(UPLOADS)
            ]
            together([partial(upload, address, path, payload, SIZE) for path in paths])
            together([partial(download, address, path, SIZE) for path in paths])

    def add(self, work: str, sizes: Sizes) -> None:
        self._table.add(self.column, work, "all processes", "MiB", sum(sizes))
        for number, size in enumerate(sizes, start=1):
            self._table.add(self.column, work, f"process {number}", "MiB", size)


MEMORY = Item(
    "memory",
    f"PSS; {ROUNDS} rounds of {UPLOADS} uploads of {SIZE // MIB} MiB at once, and as many"
    " downloads; process 1 is the one that was started, with workers process 2 is the fork server",
    measure,
)
