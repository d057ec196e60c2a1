"""SIGHUP: everything is read again, and no request fails."""

import signal
import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.process.load import LIVELY, SHOW, load
from tests.process.observed import ObservedService, observed, server_options
from tests.real.client import Client, receive
from tests.real.service import free_port, wait_until
from tests.real.streams import begin_download, drop, upload_head

HOW_MANY = pytest.mark.parametrize("workers", [0, 2], ids=["alone", "workers"])


@pytest.mark.parametrize(("workers", "times"), [(0, 10), (2, 4)], ids=["alone", "workers"])
def test_many_times_in_a_row(tmp_path: Path, workers: int, times: int) -> None:
    with observed(tmp_path, server_options(workers)) as service:
        image_id = service.client.active(b"data")
        with load(service.client, image_id, pause=3.0) as state:
            before = set(service.pids())
            for generation in range(2, times + 2):
                # What comes during a roll is not forgotten, nor done twice.
                service.signal(signal.SIGHUP)
                service.until(workers or 1, generation)
            wait_until(state.is_lively, LIVELY)
        assert state.failures == []
        if workers:
            assert not before & set(service.pids())
        wait_until(lambda: service.workers("retiring") == [])
        wait_until(lambda: len(service.forked()) == workers)


def test_signals_in_one_burst_end_with_what_is_in_the_file(tmp_path: Path) -> None:
    with observed(tmp_path, server_options(2)) as service:
        for page in range(1, 6):
            options = {**server_options(2), "api": {"page_default": page}}
            service.reconfigure(options)
            time.sleep(0.2)
        wait_until(lambda: all(_page(service.client) == 5 for _ in range(20)), 120)


def _page(client: Client) -> int:
    while len(client.get("/v2/images?limit=6").json()["images"]) < 6:
        client.create()
    return len(client.get("/v2/images").json()["images"])


def connections(workers: Sequence[Mapping[str, Any]]) -> int:
    return sum(one["connections"] for one in workers)


@HOW_MANY
def test_transfers_go_on_as_they_began(tmp_path: Path, workers: int) -> None:
    with observed(tmp_path, server_options(workers)) as service:
        client, length = service.client, 32 << 20
        stored, image_id = client.active(bytes(length)), client.create()
        with (
            begin_download(client, stored, buffer=65536) as download,
            client.connect() as upload,
        ):
            upload.sendall(upload_head(image_id, "Content-Length: 1000000") + bytes(400_000))
            wait_until(lambda: client.show(image_id)["status"] == "saving")
            service.signal(signal.SIGHUP)
            service.until(workers or 1, 2)
            service.signal(signal.SIGHUP)
            service.until(workers or 1, 3)
            assert service.workers("retiring") != []
            upload.sendall(bytes(600_000))
            assert receive(upload).status == 204
            # The connection goes on with what serves now, not with the first successor.
            wait_until(lambda: connections(service.workers("retiring")) == 1)
            upload.sendall(SHOW % stored.encode())
            reply = receive(upload)
            assert reply.status == 200
            assert "connection" not in reply.headers
            left, buffer = length, bytearray(1 << 20)
            while left:
                taken = drop(download, left, buffer)
                assert taken, "the download was cut off"
                left -= taken
            wait_until(lambda: service.workers("retiring") == [])


@HOW_MANY
def test_an_idle_client_is_served_by_the_successor(tmp_path: Path, workers: int) -> None:
    with observed(tmp_path, server_options(workers)) as service, service.client.connect() as idle:
        idle.sendall(SHOW % b"none")
        assert receive(idle).status == 404
        for generation in (2, 3):
            service.signal(signal.SIGHUP)
            service.until(workers or 1, generation)
            wait_until(lambda: service.workers("retiring") == [])
            idle.sendall(SHOW % b"none")
            assert receive(idle).status == 404


@HOW_MANY
def test_addresses_come_and_go(tmp_path: Path, workers: int) -> None:
    with observed(tmp_path, server_options(workers)) as service:
        other, path = free_port(), tmp_path / "socket"
        own = f"tcp:{service.port}:interface=127.0.0.1"
        added = [own, f"tcp:{other}:interface=127.0.0.1", f"unix:{path}:mode=600"]
        service.reconfigure(server_options(workers, listen=added))
        service.until(workers or 1, 2)
        there = Client("127.0.0.1", other)
        for _ in range(10):
            assert there.get("/healthcheck").status == 200
        with socket.socket(socket.AF_UNIX) as through_file:
            through_file.connect(str(path))
            through_file.sendall(SHOW % b"none")
            assert receive(through_file).status == 404
        assert path.stat().st_mode & 0o777 == 0o600
        # The one that is left has clients to its last moment, and none is turned away.
        with load(service.client, service.client.active(b"data")) as state:
            service.reconfigure(server_options(workers, listen=[own]))
            service.until(workers or 1, 3)
            wait_until(lambda: _refuses(other))
            wait_until(lambda: not path.exists())
        assert state.failures == []


def _refuses(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def test_more_workers_and_fewer(tmp_path: Path) -> None:
    with observed(tmp_path, server_options(1)) as service:
        with load(service.client, service.client.active(b"data"), transfers=0) as state:
            for generation, workers in enumerate((3, 1, 2), 2):
                service.reconfigure(server_options(workers))
                service.until(workers, generation)
                wait_until(lambda: service.workers("retiring") == [])
            wait_until(state.is_lively, LIVELY)
        assert state.failures == []
        wait_until(lambda: len(service.forked()) == 2)


WRONG = {
    "syntax": ("server: [", "c.yaml"),
    "unknown key": ("servr: {}\n", "servr: unknown key"),
    # A folder that can be made is made, so this is one where nobody can make any.
    "database": ('database: {url: "sqlite:////proc/nowhere/x.db"}\n', "database.url: "),
    "store": ("stores: {local: {type: file, path: /proc/images}}\n", "stores.local"),
    "policy": ("policy: {file: /nowhere}\n", "policy: /nowhere"),
    "pipeline": ("pipeline: [context]\n", "pipeline[0]"),
    "TLS": (
        "server: {workers: SAME, tls: {certificate: /nowhere, key: /nowhere}}\n",
        "server.tls: /nowhere",
    ),
    "process model": ("server: {workers: OTHER}\n", "server.workers: from"),
    "an address in use": (
        'server: {workers: SAME, listen: ["tcp:TAKEN:interface=127.0.0.1"]}\n',
        "c.yaml:1: server.listen[0]: cannot listen on tcp:TAKEN:interface=127.0.0.1: "
        "Address already in use",
    ),
}


@HOW_MANY
def test_a_broken_configuration_changes_nothing(tmp_path: Path, workers: int) -> None:
    with observed(tmp_path, server_options(workers)) as service, socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        pids = service.pids()
        for text, complaint in WRONG.values():
            text, complaint = (
                one.replace("OTHER", "0" if workers else "1")
                .replace("SAME", str(workers))
                .replace("TAKEN", str(taken.getsockname()[1]))
                .replace("c.yaml", str(service.config))
                for one in (text, complaint)
            )
            if not text.startswith("server:"):
                text += f"server: {{workers: {workers}}}\n"
            service.config.write_text(text)
            service.signal(signal.SIGHUP)
            wait_until(lambda wanted=complaint: wanted in str(service.state()["trouble"]))
            assert complaint in service.log.read_text()
            assert service.client.get("/healthcheck").status == 200
        assert service.pids() == pids
        assert service.state()["generation"] == 1
        service.reconfigure(server_options(workers))
        service.until(workers or 1, 2)
        wait_until(lambda: service.state()["trouble"] is None)


@pytest.mark.parametrize("text", [None, "server: [", "server: {listen: []}\n"])
def test_an_address_that_is_gone_is_told_when_it_is_wanted_back(
    tmp_path: Path, text: str | None
) -> None:
    """Whatever became of the file since it was read: the place in it is an extra."""
    with observed(tmp_path, server_options(0, drain_delay=0)) as service:
        before = service.config.read_text()
        service.signal(signal.SIGUSR1)
        wait_until(lambda: service.state()["phase"] == "drained")
        with socket.socket() as taken:
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            taken.bind(("127.0.0.1", service.port))
            taken.listen()
            service.config.write_text(before if text is None else text)
            service.signal(signal.SIGUSR2)
            wait_until(lambda: "Resume failed" in service.log.read_text())
            wait_until(lambda: "cannot listen on" in str(service.state()["trouble"]))
            place = f"{service.config}:" if text != "server: [" else "resume: server.listen[0]: "
            assert place in str(service.state()["trouble"])
        service.config.write_text(before)
        service.signal(signal.SIGUSR2)
        wait_until(lambda: service.state()["phase"] == "serving")
        assert service.client.get("/healthcheck").status == 200


def _umask(pid: int) -> str:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(line.split()[1] for line in lines if line.startswith("Umask:"))


@HOW_MANY
def test_the_umask_changes_and_changes_back(tmp_path: Path, workers: int) -> None:
    with observed(tmp_path, server_options(workers, umask=None)) as service:
        [at_start] = {_umask(pid) for pid in service.pids()}
        service.reconfigure(server_options(workers, umask="053"))
        service.until(workers or 1, 2)
        assert {_umask(pid) for pid in service.pids()} == {"0053"}
        service.reconfigure(server_options(workers, umask=None))
        service.until(workers or 1, 3)
        assert {_umask(pid) for pid in service.pids()} == {at_start}


def test_the_log_moves(tmp_path: Path) -> None:
    with observed(tmp_path, server_options(2)) as service:
        log = tmp_path / "elsewhere"
        service.reconfigure({**server_options(2), "logging": {"file": str(log), "format": "json"}})
        service.until(2, 2)
        for _ in range(10):
            service.client.get("/v2/images")
        wait_until(lambda: log.exists() and log.read_text().count('"/v2/images"') == 10)
        told = '"Reloaded: serving with configuration 2"'
        wait_until(lambda: told in log.read_text())  # the parent writes a little later
        service.log = log


@pytest.mark.parametrize("moment", [0.5, 2.0])
def test_an_end_during_a_roll(tmp_path: Path, moment: float) -> None:
    with observed(tmp_path, server_options(2)) as service:
        service.signal(signal.SIGHUP)
        time.sleep(moment)
        ended = time.monotonic()
    # The block's end has stopped it, and has seen that nothing is left.
    assert time.monotonic() - ended < 40, "it waited for a client that was gone"


def test_an_end_during_the_start(tmp_path: Path) -> None:
    service = ObservedService(tmp_path, server_options(2))
    try:
        service.start()  # one worker accepts, the other may not be there yet
        service.signal(signal.SIGTERM)
        assert service.wait() == -signal.SIGTERM
        assert "Giving up" not in service.log.read_text()
        assert "Traceback" not in service.log.read_text()
    finally:
        service.end()


def test_a_worker_killed_during_a_roll(tmp_path: Path) -> None:
    with observed(tmp_path, server_options(3)) as service:
        for generation in range(2, 5):
            service.signal(signal.SIGHUP)
            time.sleep(0.3 * generation)
            service.kill_worker()
            service.until(3, generation)
        wait_until(lambda: len(service.forked()) == 3)
