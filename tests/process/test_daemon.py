"""`twistd imgservice` without --nodaemon: it leaves the terminal, and works all the same."""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.real.client import Client
from tests.real.service import TWISTD, free_port, wait_until


class Daemon:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = free_port()
        self.client = Client("127.0.0.1", self.port)
        (directory / "var").mkdir()
        (directory / "c.yaml").write_text(
            f"server: {{listen: ['tcp:{self.port}:interface=127.0.0.1']}}\n"
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
