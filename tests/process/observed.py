"""A service of several processes, as its operator sees it."""

import json
import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml

from tests.real.service import Service, wait_until

READY = 120.0
"""Seconds that starts may take on a busy machine."""


class ObservedService(Service):
    """A service that can be asked how it is, and be given another configuration."""

    def state(self) -> Mapping[str, Any]:
        """Return what it has written of itself; nothing before it has."""
        path = self.directory / "var" / "imgservice.state"
        try:
            found: Mapping[str, Any] = json.loads(path.read_text())
        except FileNotFoundError:
            return {}
        return found

    def workers(self, state: str = "ready") -> Sequence[Mapping[str, Any]]:
        return [one for one in self.state().get("workers", ()) if one["state"] == state]

    def pids(self) -> list[int]:
        return [pid for one in self.workers() if (pid := one["pid"])]  # 0: not known yet

    def until(self, workers: int, generation: int = 1) -> None:
        """Wait until so many workers serve, all with this configuration."""

        def are_ready() -> bool:
            ready = self.workers()
            return (
                len(ready) == workers
                and {one["generation"] for one in ready} == {generation}
                and all(Path(f"/proc/{one['pid']}").exists() for one in ready)
            )

        wait_until(are_ready, READY)

    def reconfigure(self, options: Mapping[str, Any]) -> None:
        """Write another configuration and let it be read."""
        self.config.write_text(yaml.safe_dump(self._options(options), sort_keys=False))
        self.signal(signal.SIGHUP)

    def descendants(self) -> list[int]:
        """Return all processes that the service has started, and those that these have."""
        return [*self.children(), *self.forked()]

    def children(self) -> list[int]:
        """Return the fork server and the privileged helper, as far as there are any."""
        return _children(self.pid)

    def forked(self) -> list[int]:
        """Return the workers, which are children of the fork server."""
        return [pid for child in self.children() for pid in _children(child)]

    def kill_worker(self) -> None:
        """Kill one of the workers that serve."""
        wait_until(self._kills_one)

    def _kills_one(self) -> bool:
        for pid in reversed(self.pids()):
            with suppress(ProcessLookupError):  # it has ended since this was written
                os.kill(pid, signal.SIGKILL)
                return True
        return False

    def end(self) -> None:
        """Kill the workers, too: some tests leave them without their parent."""
        left = [one["pid"] for one in self.state().get("workers", ())]
        super().end()
        for pid in left:
            with suppress(FileNotFoundError, ProcessLookupError):  # it has ended
                if b"imgservice" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    os.kill(pid, signal.SIGKILL)


def descriptors(pid: int) -> dict[int, str]:
    """Return what a process has open."""
    found = {}
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            found[int(entry.name)] = str(entry.readlink())
    return found


def _children(pid: int) -> list[int]:
    try:
        found = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return []  # it has ended meanwhile
    return [int(child) for child in found.split()]


def server_options(workers: int, **server: Any) -> dict[str, Any]:
    return {"server": {"workers": workers, **server}}


@contextmanager
def observed(
    directory: Path, options: Mapping[str, Any], *, is_cold: bool = False
) -> Iterator[ObservedService]:
    """Run a service until all of its workers are ready; see in the end that nothing is left."""
    service = ObservedService(directory, options)
    service.is_cold = is_cold
    service.make_tables()
    try:
        service.start()
        service.until(options["server"]["workers"] or 1)
        yield service
        children = service.descendants()
        service.stop()
        assert not [pid for pid in children if Path(f"/proc/{pid}").exists()]
    finally:
        service.end()
