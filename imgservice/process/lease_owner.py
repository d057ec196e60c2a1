"""Which process this is, in words that another process can check."""

import itertools
import os
import socket
from functools import cached_property
from pathlib import Path


class ProcessLeaseOwner:
    """Names this process by host, boot, process namespace, pid and start time.

    Whether a holder on the same host still runs can so be told for certain, even if its pid was
    given to another process. Of holders on other hosts nothing is known here: their leases expire.
    So do those of a holder that has come to its end in a process that goes on with another.
    """

    _serials = itertools.count()

    def __init__(self) -> None:
        self._serial = next(self._serials)
        self._here = f"{socket.gethostname()[:64]}:{_boot()}:{_namespace()}"

    @cached_property
    def id(self) -> str:
        """The name; found when it is first asked for, which a daemon does after it has forked."""
        return f"{self._here}:{os.getpid()}:{start_time(os.getpid())}.{self._serial}"

    def is_dead(self, holder: str) -> bool:
        where, _, rest = holder.rpartition(":")
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


def start_time(pid: int) -> str:
    """Return the start time of a process in clock ticks since boot; empty when it is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    state, *fields = stat.rpartition(")")[2].split()
    return "" if state in "ZX" else fields[18]
