"""Name this process so that other processes can check whether it still runs."""

import itertools
import os
import socket
from functools import cached_property
from pathlib import Path

from imgservice.concurrency.processes import start_time


class ProcessLeaseOwner:
    """Names this process by host, boot, process namespace, pid and start time.

    So it is certain whether an owner on the same host still runs, even if its pid was given to
    another process. Of owners on other hosts nothing is known here: their leases expire. So do
    those of an owner that a reload has replaced by another one in the same process.
    """

    _serials = itertools.count()

    def __init__(self) -> None:
        self._serial = next(self._serials)
        self._here = f"{socket.gethostname()[:64]}:{_boot()}:{_namespace()}"

    @cached_property
    def id(self) -> str:
        """The name; found when it is first asked for, which a daemon does after it has forked."""
        return f"{self._here}:{os.getpid()}:{start_time(os.getpid())}.{self._serial}"

    def is_dead(self, owner: str) -> bool:
        where, _, rest = owner.rpartition(":")
        where, _, pid = where.rpartition(":")
        if where != self._here or not pid.isdigit():
            return False
        return start_time(int(pid)) != rest.partition(".")[0]


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return "unknown"


def _namespace() -> str:
    try:
        return str(Path("/proc/self/ns/pid").stat().st_ino)
    except OSError:
        return "unknown"
