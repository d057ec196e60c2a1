"""What a run measures, and how much of it."""

from pathlib import Path

import attrs

from bench.units import MIB


@attrs.frozen
class Options:
    """The command line as a value; `seconds` is the length of each request-rate measurement."""

    items: tuple[str, ...]
    work: Path
    database: str = "sqlite"
    """The kind of ours."""
    workers: tuple[int, ...] = (0,)
    """How many workers ours have: a service of its own for each number."""
    rounds: int = 3
    scale: float = 1.0
    seconds: int = 2
    connections: tuple[int, ...] = (1, 16, 64)
    writing_connections: tuple[int, ...] = (1, 16)
    watch_seconds: float = 6.0
    idle_connections: int = 2000
    crowd_connections: int = 10_000
    memory_seconds: float = 120.0
    """How long the item `memory` waits after its transfers."""
    base_url: str | None = None
    base_pid: int | None = None
    base_token: str | None = attrs.field(default=None, repr=False)
    base_database: str | None = attrs.field(default=None, repr=False)
    base_database_pid: int | None = None
    base_clouds: Path | None = None
    base_users: tuple[str, str] = ("admin", "demo")
    """The clouds of an administrator and of a member."""
    list_sizes: tuple[int, ...] = (1_000, 100_000)
    list_seconds: float = 0.2
    lists: str = ""
    """A regular expression for the names of those that are asked for."""

    def size(self, mebibytes: int) -> int:
        """Return a size in bytes, scaled: whole MiB, at least one."""
        return max(1, round(mebibytes * self.scale)) * MIB

    @property
    def long_rounds(self) -> int:
        """How often the items that run for seconds by design are repeated."""
        return max(1, self.rounds - 1)


def quick(options: Options) -> Options:
    """Return the same run in under a minute: one round of everything, small transfers."""
    return attrs.evolve(
        options,
        rounds=1,
        scale=min(options.scale, 0.125),
        seconds=1,
        connections=(16,),
        writing_connections=(16,),
        watch_seconds=3.0,
        idle_connections=500,
        crowd_connections=1000,
        memory_seconds=min(options.memory_seconds, 10.0),
        list_sizes=(1_000, 10_000),
        list_seconds=0.05,
    )
