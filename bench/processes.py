"""Processes: what /proc tells about a tree of them, and starting and ending one."""

import contextlib
import os
import signal
import subprocess
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import attrs

from bench.errors import Wrong
from bench.units import MIB

PROC = Path("/proc")
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
PAGE_SIZE = os.sysconf("SC_PAGE_SIZE")
CPU_CLOCK = 2
"""What is added to a process's number to name its clock (clock_getcpuclockid)."""
ENDING_SECONDS = 10
LAST_LINES = 15


def tree(root: int) -> list[int]:
    """Return `root` and all its descendants."""
    children = defaultdict(list)
    for pid in _all_pids():
        fields = _stat_fields(pid)
        if fields:
            children[int(fields[1])].append(pid)
    found = [root]
    for pid in found:
        found.extend(children[pid])
    return found


def title(pid: int) -> str:
    """Return what the process calls itself, "" when it is gone."""
    return _read(pid, "cmdline").rstrip("\0")


def cpu_seconds(pids: Iterable[int]) -> float:
    """Return the user and system time of these processes and of their reaped children.

    That of the processes is exact, that of the children is in hundredths of a second.
    """
    return sum(_own_cpu_seconds(pid) + _reaped_cpu_seconds(pid) for pid in pids)


def _own_cpu_seconds(pid: int) -> float:
    """Read the clock that Linux has for each process; 0 when the process is gone."""
    try:
        return time.clock_gettime(~pid << 3 | CPU_CLOCK)
    except OSError:
        return 0.0


def _reaped_cpu_seconds(pid: int) -> float:
    return sum(int(field) for field in _stat_fields(pid)[13:15]) / TICKS_PER_SECOND


def resident_mib(pids: Iterable[int]) -> float:
    """Return the sum of the resident sets: a page that two processes share counts twice."""
    pages = 0
    for pid in pids:
        fields = _read(pid, "statm").split()
        pages += int(fields[1]) if fields else 0
    return pages * PAGE_SIZE / MIB


def proportional_mib(pids: Iterable[int]) -> float:
    """Return the memory with each shared page divided by its users (PSS)."""
    return _mapped_mib(pids, ("Pss:",))


def private_mib(pids: Iterable[int]) -> float:
    """Return the memory that no other process shares."""
    return _mapped_mib(pids, ("Private_Clean:", "Private_Dirty:"))


def _mapped_mib(pids: Iterable[int], kinds: Sequence[str]) -> float:
    kibibytes = 0
    for pid in pids:
        for line in _read(pid, "smaps_rollup").splitlines():
            if line.startswith(tuple(kinds)):
                kibibytes += int(line.split()[1])
    return kibibytes / 1024


def sockets(pid: int) -> int:
    """Return how many sockets the process has."""
    count = 0
    for descriptor in (PROC / str(pid) / "fd").iterdir():
        with contextlib.suppress(OSError):
            count += str(descriptor.readlink()).startswith("socket:")
    return count


@attrs.frozen
class Process:
    """A program that was started, and the file its output goes to."""

    _popen: subprocess.Popen[bytes]
    _log: Path

    @property
    def pid(self) -> int:
        """The root of its tree."""
        return self._popen.pid

    @property
    def name(self) -> str:
        """What to call it in a message."""
        return self._log.stem

    @property
    def ended(self) -> bool:
        """Whether it is over."""
        return self._popen.poll() is not None

    @property
    def last_words(self) -> str:
        """The end of its output."""
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-LAST_LINES:])


@contextlib.contextmanager
def started(argv: Sequence[str], name: str, directory: Path) -> Iterator[Process]:
    """Run a program in `directory` and in its own session; end all of its tree afterwards.

    `Wrong` when it is still there 10 s after SIGTERM; it is killed then.
    """
    log = directory / f"{name}.log"
    with log.open("ab") as output:
        popen = subprocess.Popen(
            argv,
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        yield Process(popen, log)
    finally:
        _end(popen, name)


def _end(popen: subprocess.Popen[bytes], name: str) -> None:
    family = tree(popen.pid)
    popen.terminate()
    try:
        popen.wait(ENDING_SECONDS)
    except subprocess.TimeoutExpired:
        raise Wrong(f"{name} was still there {ENDING_SECONDS} s after SIGTERM") from None
    finally:
        _kill(popen, family)


def _kill(popen: subprocess.Popen[bytes], family: list[int]) -> None:
    """Kill what is left of a tree whose root is ours to wait for."""
    session = popen.pid
    for pid in family:
        with contextlib.suppress(ProcessLookupError):
            if os.getsid(pid) == session:
                os.kill(pid, signal.SIGKILL)
    popen.wait()


def _all_pids() -> list[int]:
    return [int(entry) for entry in os.listdir(PROC) if entry.isdigit()]  # noqa: PTH208 - twice as fast


def _stat_fields(pid: int) -> list[str]:
    """Return the fields from the state on: the name before it may contain spaces."""
    return _read(pid, "stat").rpartition(")")[2].split()


def _read(pid: int, name: str) -> str:
    """Return the file, or "" when the process is gone."""
    try:
        return (PROC / str(pid) / name).read_text()
    except OSError:
        return ""
