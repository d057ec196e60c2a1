"""`twistd imgservice` without --nodaemon: it leaves the terminal, and works all the same."""

import os
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import pytest

from tests.real.client import Client
from tests.real.service import TWISTD, free_port, wait_until


class Daemon:
    def __init__(self, directory: Path, workers: int = 0, more: str = "") -> None:
        self.directory = directory
        self.port = free_port()
        self.client = Client("127.0.0.1", self.port)
        (directory / "var").mkdir()
        (directory / "c.yaml").write_text(
            f"server: {{listen: ['tcp:{self.port}:interface=127.0.0.1'], workers: {workers}}}\n"
            f"{more}"
        )

    def start(self, pid_file: str = "twistd.pid") -> "subprocess.CompletedProcess[str]":
        command = [str(TWISTD), f"--pidfile={pid_file}", "imgservice", "--config", "c.yaml"]
        return subprocess.run(
            command, cwd=self.directory, capture_output=True, text=True, timeout=120, check=False
        )

    @property
    def pid(self) -> int:
        return int((self.directory / "twistd.pid").read_text())

    @property
    def log(self) -> str:
        return (self.directory / "imgservice.log").read_text()

    def stop(self) -> None:
        pid = self.pid
        os.kill(pid, signal.SIGTERM)
        wait_until(lambda: not Path(f"/proc/{pid}").exists())


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    daemon = Daemon(tmp_path)
    started = daemon.start()
    assert started.returncode == 0, started.stderr
    yield daemon
    if (tmp_path / "twistd.pid").exists():
        daemon.stop()


def test_a_daemon_takes_data_in_and_hands_it_out(daemon: Daemon) -> None:
    image_id = daemon.client.active(b"data")
    assert daemon.client.download(image_id).body == b"data"
    daemon.stop()
    assert "Server Shut Down." in daemon.log
    assert "PUT" in daemon.log


def test_a_taken_address_is_told_at_the_terminal_and_in_the_log(daemon: Daemon) -> None:
    second = daemon.start("second.pid")
    assert second.returncode == 1
    assert "cannot listen on" in second.stderr
    # The operator at the terminal is told before that is cleaned up.
    wait_until(lambda: not (daemon.directory / "second.pid").exists())
    assert "Address already in use" in daemon.log
    assert "Traceback" not in daemon.log + second.stderr
    assert daemon.client.get("/versions").status == 200


def _titles_in(directory: Path) -> Mapping[int, bytes]:
    """Return the processes that work in the directory."""
    found = {}
    for process in Path("/proc").iterdir():
        with suppress(OSError):
            if process.name.isdigit() and (process / "cwd").readlink() == directory:
                found[int(process.name)] = (process / "cmdline").read_bytes()
    return found


def test_a_daemon_with_workers_leaves_nothing_at_the_terminal(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path, workers=2)
    started = daemon.start()
    assert started.returncode == 0, started.stderr
    try:
        wait_until(lambda: "listens on" in daemon.log)
        # What has tried the configuration at the terminal is replaced, and ends.
        wait_until(lambda: len(_titles_in(tmp_path)) == 4)
        sessions = {os.getsid(pid) for pid in _titles_in(tmp_path)}
        assert sessions == {os.getsid(daemon.pid)} != {os.getsid(0)}
        image_id = daemon.client.active(b"data")
        assert daemon.client.download(image_id).body == b"data"
    finally:
        daemon.stop()
    wait_until(lambda: _titles_in(tmp_path) == {})
    assert "Traceback" not in daemon.log


@pytest.mark.parametrize("workers", [0, 2])
def test_a_mistake_is_told_at_the_terminal(tmp_path: Path, workers: int) -> None:
    started = Daemon(tmp_path, workers, "policy: {file: missing.yaml}\n").start()
    assert started.returncode == 1
    [line] = started.stderr.splitlines()
    assert line.startswith("imgservice: c.yaml:2: policy: ")
