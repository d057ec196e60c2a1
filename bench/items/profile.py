"""Where the CPU of a request goes, by the parts of the program."""

import itertools
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from threading import Event

import attrs

from bench.background import meanwhile
from bench.contestants.contestant import Images, creation, kept
from bench.contestants.ours import ours
from bench.contestants.ours import sampled as sampled_installation
from bench.hammer import hammer, until
from bench.items.documents import shown
from bench.items.write import NEW
from bench.run import Item, Run
from bench.sampling import sampled
from bench.table import Table
from bench.usage import watched

CONNECTIONS = 16
LISTED = 25


def measure(run: Run, table: Table) -> None:
    """Ask for one thing at a time: first with a look at the CPU, then with samples of stacks."""
    with ExitStack() as stack:
        installation, stacks = sampled_installation(run.installed())
        service = stack.enter_context(ours(installation, run.database))
        document = stack.enter_context(shown([service]))[service.column]
        for _ in range(LISTED):
            stack.enter_context(kept(service, service.document(0)))
        address = service.address
        requests = {
            "show": address.request("GET", document),
            f"list of {LISTED}": address.request("GET", f"/v2/images?limit={LISTED}"),
            "create": creation(address, NEW),
        }
        for work, request in requests.items():
            profile = _Profile(run, table, service, stacks, work, request)
            for _ in range(run.options.long_rounds):
                profile.measure()


@attrs.frozen
class _Profile:
    run: Run
    table: Table
    service: Images
    stacks: Path
    work: str
    request: bytes

    def measure(self) -> None:
        cpu, found = self._cpu(), self._samples()
        self._add("all", cpu)
        for part, count in found.most_common():
            self._add(part, cpu * count / found.total())

    def _cpu(self) -> float:
        """Return the milliseconds of one request while nobody looks on."""
        with watched(self.service.pid) as usage:
            count = self._ask(until(time.monotonic() + self.run.options.seconds, self.request))
        assert usage.cpu
        return usage.cpu * 1e3 / count

    def _samples(self) -> Counter[str]:
        assert self.service.pid
        with meanwhile([self._ask_on]):
            return sampled(self.service.pid, self.stacks, 2 * self.run.options.seconds)

    def _ask_on(self, ended: Event) -> None:
        self._ask(itertools.takewhile(lambda _: not ended.is_set(), itertools.repeat(self.request)))

    def _ask(self, requests: Iterator[bytes]) -> int:
        return len(hammer(self.service.address, requests, CONNECTIONS).latencies)

    def _add(self, part: str, milliseconds: float) -> None:
        self.table.add(self.service.column, self.work, part, "ms/req", milliseconds)


PROFILE = Item(
    "profile",
    "the CPU of the service, and the parts of it by samples of its stacks",
    measure,
)
