"""One run of the benchmark: what every item is given to work with."""

import contextlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

import attrs

from bench.address import address_of
from bench.contestants.certificate import Certificate
from bench.contestants.contestant import Images
from bench.contestants.ours import Installation, installed, ours
from bench.databases import Foreign, Own
from bench.errors import LeftOut, Wrong
from bench.options import Options
from bench.payload import Payload
from bench.report import Report
from bench.table import Table, workers_of


class Measured(Protocol):
    """Whatever has a column in the tables."""

    @property
    def column(self) -> str: ...


M = TypeVar("M", bound=Measured)


@attrs.frozen
class Item:
    """Something to be measured: `legend` says under its table what the limits are."""

    name: str
    legend: str
    measure: Callable[["Run", Table], None]


@attrs.frozen
class Run:
    """What is measured, where its files go, and who is told.

    `database` is the server on which ours run, None where these have SQLite.
    """

    options: Options
    folder: Path
    report: Report
    database: Own | None = None
    payload: Payload = attrs.field(factory=Payload, repr=False)
    _numbers: Iterator[int] = attrs.field(factory=itertools.count, repr=False)

    def new_folder(self) -> Path:
        """Return the path of a folder that does not exist yet."""
        return self.folder / str(next(self._numbers))

    def measure(self, item: Item) -> None:
        """Measure one item and print its table; what goes wrong is reported, not raised."""
        self.report.begin(item.name)
        table = Table(item.name, item.legend)
        try:
            item.measure(self, table)
        except LeftOut as reason:
            self.report.remark(f"{item.name} is left out: {reason}")
        except (Wrong, OSError) as error:
            self.report.problem(f"{item.name}: {error}")
        if table.rows:
            self.report.table(table)

    def rounds(
        self,
        table: Table,
        contestants: Sequence[M],
        measure: Callable[[M], None],
        count: int | None = None,
    ) -> None:
        """Measure the contestants in turns, so that a disturbance hits all of them.

        Every second round goes the other way. A contestant that fails is not asked again here.
        """
        left = list(contestants)
        for _ in range(count or self.options.rounds):
            for contestant in tuple(left):
                if not self._succeeds(table, contestant, measure):
                    left.remove(contestant)
            left.reverse()

    @contextlib.contextmanager
    def services(self, certificate: Certificate | None = None) -> Iterator[list[Images]]:
        """Start imgservice, empty, and add the server that it is compared with, if any.

        There is one for each number of workers, `ours` being that with the first number. With a
        certificate, over TLS, there is nothing to compare with.
        """
        with contextlib.ExitStack() as stack:
            services = [
                stack.enter_context(ours(installation, self.database, column))
                for column, installation in self.variants(certificate)
            ]
            yield services if certificate else [*services, *self.base()]

    def variants(
        self, certificate: Certificate | None = None
    ) -> Iterator[tuple[str, Installation]]:
        """Configure imgservice once for each number of workers; yield the columns, too."""
        for number in self.options.workers:
            column = "ours" if number == self.options.workers[0] else workers_of(number)
            yield column, self.installed(certificate, number)

    def installed(
        self, certificate: Certificate | None = None, workers: int | None = None
    ) -> Installation:
        """Configure imgservice with an empty database of its own."""
        url = self.database.create() if self.database else None
        count = self.options.workers[0] if workers is None else workers
        return installed(self.new_folder(), certificate, database=url, workers=count)

    def base(self) -> list[Images]:
        """Return the server that ours is compared with, if any."""
        options = self.options
        if not options.base_url:
            return []
        address = address_of(options.base_url, options.base_token)
        pid = options.base_database_pid
        return [Images("base", address, options.base_pid, Foreign(pid) if pid else None)]

    def _succeeds(self, table: Table, contestant: M, measure: Callable[[M], None]) -> bool:
        try:
            measure(contestant)
        except (Wrong, OSError) as error:
            self.failed(table, contestant, str(error) or repr(error))
            return False
        return True

    def failed(self, table: Table, contestant: Measured, what: str) -> None:
        """Report what a contestant did wrong; only a remark when it is the one compared with."""
        tell = self.report.remark if contestant.column == "base" else self.report.problem
        tell(f"{table.name}: {contestant.column}: {what}")
