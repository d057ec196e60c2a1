"""CPU and memory of a server while something is measured."""

import contextlib
import threading
from collections.abc import Iterator

import attrs

from bench.processes import cpu_seconds, resident_mib, tree

SAMPLE_SECONDS = 0.1


@attrs.define
class Usage:
    """Filled in when the measurement has ended; None all along for a server without a known pid."""

    cpu: float | None = None
    growth_mib: float | None = None

    def cpu_per(self, amount: float) -> float | None:
        """Return CPU seconds per unit of `amount`."""
        return None if self.cpu is None or not amount else self.cpu / amount


@contextlib.contextmanager
def watched(pid: int | None) -> Iterator[Usage]:
    """Measure the tree of `pid`; `growth_mib` is its highest resident set less the first one."""
    usage = Usage()
    if pid is None:
        yield usage
        return
    pids = tree(pid)
    cpu_before = cpu_seconds(pids)
    with _peak_of(pids) as samples:
        yield usage
    usage.cpu = cpu_seconds(tree(pid)) - cpu_before
    usage.growth_mib = max(samples) - samples[0]


@contextlib.contextmanager
def _peak_of(pids: list[int]) -> Iterator[list[float]]:
    samples = [resident_mib(pids)]
    ended = threading.Event()

    def sample() -> None:
        while not ended.wait(SAMPLE_SECONDS):
            samples.append(resident_mib(pids))

    sampler = threading.Thread(target=sample, daemon=True)
    sampler.start()
    try:
        yield samples
    finally:
        ended.set()
        sampler.join()
        samples.append(resident_mib(pids))
