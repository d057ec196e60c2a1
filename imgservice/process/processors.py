"""How many workers there are to be."""

import os
from contextlib import suppress
from pathlib import Path

from imgservice.config.sections import Config


def worker_count(config: Config) -> int:
    """Return how many workers the configuration asks for; 0: none, and no parent."""
    workers = config.server.workers
    return processors() if workers == "auto" else workers


def processors() -> int:
    """Return how many processors we may use, a container's limit included."""
    present = len(os.sched_getaffinity(0))
    with suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return max(1, min(present, -(-int(quota) // int(period))))
    return present
