"""With workers, another process finds out whether a configuration works: its words are the same."""

import os
import signal
import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.process.observed import ObservedService, observed, server_options
from tests.process.test_start import Attempt
from tests.real.service import wait_until

MISTAKES: Mapping[str, Callable[[Path], str]] = {
    "policy": lambda _: "policy: {file: missing.yaml}\n",
    "keystone": lambda _: "limits: {keystone: {enabled: true}}\n",
    "database": lambda folder: f"database: {{url: 'sqlite:///{folder}'}}\n",
    "store": lambda _: "stores: {local: {type: file, path: c.yaml/images}}\ndefault_store: local\n",
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_what_stops_a_start(tmp_path: Path, mistake: str) -> None:
    text = "auth: {mode: none}\n" + MISTAKES[mistake](tmp_path)
    listen = "server: {listen: ['tcp:PORT:interface=127.0.0.1'], workers: %d}\n"
    alone, with_workers = (Attempt(tmp_path, listen % n + text).says() for n in (0, 2))
    assert with_workers == alone
    assert "c.yaml" in alone


def _trials(service: ObservedService) -> list[int]:
    titles = {pid: Path(f"/proc/{pid}/cmdline") for pid in service.forked()}
    return [pid for pid, title in titles.items() if title.read_bytes().startswith(b"imgservice-tr")]


def test_a_trial_that_dies_changes_nothing(tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    with observed(tmp_path, server_options(2)) as service:
        before = service.pids()
        locked = sqlite3.connect(other, isolation_level=None)
        locked.execute("BEGIN EXCLUSIVE")
        locked.execute("CREATE TABLE one (id INTEGER)")
        options = {**server_options(2), "database": {"url": f"sqlite:///{other}"}}
        service.reconfigure(options)
        wait_until(lambda: _trials(service) != [])
        for pid in _trials(service):
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: "cannot be tried" in str(service.state()["trouble"]))
        locked.close()
        assert service.client.get("/healthcheck").status == 200
        assert service.pids() == before
        service.reconfigure(server_options(2))
        service.until(2, 2)
