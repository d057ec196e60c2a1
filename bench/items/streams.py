"""Transfers at the same time."""

import attrs

from bench.contestants.contestant import Contestant
from bench.table import Table
from bench.units import GIB, MIB
from bench.usage import Usage


@attrs.frozen
class Streams:
    """`count` transfers of `size` bytes each, to be measured `rounds` times."""

    count: int
    size: int
    rounds: int

    def fill(
        self, table: Table, contestant: Contestant, verb: str, seconds: float, usage: Usage
    ) -> None:
        """Add the figures to a table."""
        column, work = contestant.column, f"{verb} {self.count} x {self.size // MIB} MiB"
        total = self.count * self.size
        table.add(column, work, "rate", "MiB/s", total / MIB / seconds)
        table.add(column, work, "server CPU", "s/GiB", usage.cpu_per(total / GIB))
        table.add(column, work, "memory growth", "MiB", usage.growth_mib)
