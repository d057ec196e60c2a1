"""Tell processes of this host apart, even those that have had the same pid."""

from pathlib import Path


def start_time(pid: int) -> str:
    """Return the start time of a process in clock ticks since boot; empty when it is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    state, *fields = stat.rpartition(")")[2].split()
    return "" if state in "ZX" else fields[18]
