"""Several processes that serve, and a parent that looks after them."""

import os
import random
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from tests.process.load import LIVELY, load
from tests.process.observed import ObservedService, descriptors, observed, server_options
from tests.real.client import receive
from tests.real.service import wait_until
from tests.real.streams import begin_download, drop, upload_head


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObservedService]:
    with observed(tmp_path_factory.mktemp("workers"), server_options(2)) as started:
        yield started


def test_connections_are_spread(service: ObservedService) -> None:
    with ExitStack() as stack:
        for _ in range(40):
            connection = stack.enter_context(service.client.connect())
            connection.sendall(b"GET /healthcheck HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert receive(connection).body == b"OK"
        wait_until(lambda: sum(one["connections"] for one in service.workers()) >= 40)
        assert all(one["connections"] >= 5 for one in service.workers()), service.workers()


def test_the_parent_serves_nobody(service: ObservedService) -> None:
    assert sorted(service.forked()) == sorted(service.pids())
    before = {one["pid"]: one["requests"] for one in service.workers()}
    for _ in range(20):
        assert service.client.get("/healthcheck").status == 200
    wait_until(lambda: sum(one["requests"] - before[one["pid"]] for one in service.workers()) >= 20)


def test_workers_are_told_no_secrets_where_others_can_read(service: ObservedService) -> None:
    for pid in service.pids():
        seen = Path(f"/proc/{pid}/cmdline").read_bytes() + Path(f"/proc/{pid}/environ").read_bytes()
        assert str(service.database).encode() not in seen
        targets = descriptors(pid).values()
        # One is for the stacks of a hanging worker; the bootstrap file is closed.
        hidden = [target for target in targets if target.startswith("/memfd:")]
        assert len(hidden) == 1, [*targets]


def test_a_killed_worker_takes_only_its_own_requests_along(tmp_path: Path) -> None:
    with observed(tmp_path, server_options(2)) as service:
        image_id = service.client.active(b"data")
        with load(service.client, image_id) as state:
            for _ in range(4):
                service.until(2)
                time.sleep(1)
                connected = state.done.get("come and go", 0)
                os.kill(random.choice(service.pids()), signal.SIGKILL)
                # New clients are served at once, long before there is another worker.
                wait_until(lambda at=connected: state.done.get("come and go", 0) > at + 20)
            wait_until(state.is_lively, LIVELY)
        # Each time no more than one request of each client was under way.
        assert len(state.failures) <= 4 * 7, state.failures
        assert not [one for one in state.failures if "refused" in one.lower()], state.failures
        service.until(2)
        wait_until(service.is_at_rest)


def test_who_kills_workers_does_not_end_the_service(tmp_path: Path) -> None:
    with observed(tmp_path, server_options(1)) as service:
        for _ in range(6):  # more often than workers may fail to start by themselves
            wait_until(lambda: service.forked() != [])
            killed = service.forked()[0]
            os.kill(killed, signal.SIGKILL)
            wait_until(lambda pid=killed: pid not in service.forked())
        wait_until(lambda: service.forked() != [])
        service.until(1)
        assert service.client.get("/healthcheck").status == 200


def test_a_stuck_worker_is_replaced_and_tells_where_it_was(tmp_path: Path) -> None:
    with observed(tmp_path, server_options(2, hang_limit=2)) as service:
        stuck = service.pids()[0]
        os.kill(stuck, signal.SIGSTOP)
        wait_until(lambda: stuck not in service.pids() and len(service.pids()) == 2, 60)
        log = service.log.read_text()
        assert f"Worker {stuck} hangs and is killed: its reactor did not turn for" in log
        wait_until(lambda: service.state()["trouble"] is None)  # it is over
        for _ in range(20):
            assert service.client.get("/healthcheck").status == 200


@pytest.mark.parametrize("all_of_them", [False, True])
def test_a_parent_that_stood_still_takes_no_worker_for_stuck(
    tmp_path: Path, all_of_them: bool
) -> None:
    """Their signs of life wait to be read, or they stood still with it, as in a paused machine."""
    with observed(tmp_path, server_options(2, hang_limit=3)) as service:
        before = service.pids()
        paused = [service.pid, *before] if all_of_them else [service.pid]
        for pid in paused:
            os.kill(pid, signal.SIGSTOP)
        time.sleep(5)
        for pid in paused:
            os.kill(pid, signal.SIGCONT)
        assert service.client.get("/healthcheck").status == 200
        wait_until(lambda: sum(one["requests"] for one in service.workers()) >= 1)
        assert service.pids() == before
        assert "hangs" not in service.log.read_text()


def test_workers_end_when_the_parent_is_killed(tmp_path: Path) -> None:
    service = ObservedService(tmp_path, server_options(2))
    try:
        service.start()
        service.until(2)
        pids, image_id = service.pids(), service.client.create()
        with service.client.connect() as upload:
            upload.sendall(upload_head(image_id, "Content-Length: 1000000") + bytes(400_000))
            wait_until(lambda: service.client.show(image_id)["status"] == "saving")
            service.kill()
            upload.sendall(bytes(600_000))  # what is under way is finished
            assert receive(upload).status == 204
        wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))
    finally:
        service.end()


def test_a_worker_that_is_told_to_end_finishes_while_another_takes_its_place(
    tmp_path: Path,
) -> None:
    with observed(tmp_path, server_options(1, hang_limit=2)) as service:
        length, [before] = 16 << 20, service.pids()
        stored = service.client.active(bytes(length))
        with begin_download(service.client, stored, buffer=65536) as download:
            os.kill(before, signal.SIGTERM)
            wait_until(lambda: service.pids() not in ([], [before]), 60)
            os.kill(before, signal.SIGTERM)
            assert service.client.get("/healthcheck").status == 200
            time.sleep(4)  # it does not count as hanging
            left, buffer = length, bytearray(1 << 20)
            while left:
                taken = drop(download, left, buffer)
                assert taken, "the download was cut off"
                left -= taken
        wait_until(lambda: not Path(f"/proc/{before}").exists())
        assert "Traceback" not in service.log.read_text()


def test_everybody_is_told_to_end_again_and_again(tmp_path: Path) -> None:
    """An init system that ends a whole control group signals the workers, too."""
    service = ObservedService(tmp_path, server_options(2))
    try:
        service.start()
        service.until(2)
        stored = service.client.active(bytes(16 << 20))
        pids = service.pids()
        with begin_download(service.client, stored, buffer=65536) as download:
            for _ in range(4):
                for pid in (*pids, service.pid):
                    with suppress(ProcessLookupError):  # one of them has nothing left to do
                        os.kill(pid, signal.SIGTERM)
                time.sleep(0.2)
            left, buffer = 16 << 20, bytearray(1 << 20)
            while left:
                taken = drop(download, left, buffer)
                assert taken, "the download was cut off"
                left -= taken
        assert service.wait() == -signal.SIGTERM
        service.assert_clean()
    finally:
        service.end()


def test_the_service_ends_when_no_worker_can_start(tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text("{}\n")
    options = {**server_options(1), "policy": {"file": str(policy)}}
    service = ObservedService(tmp_path, options)
    try:
        service.start()
        service.until(1)
        policy.write_text("get_images: [this is no rule\n")
        os.kill(service.pids()[0], signal.SIGKILL)
        assert service.wait() == 1
        said = service.said.read_text()
        assert f"imgservice: no worker can start: policy: {policy}:2: not valid YAML" in said
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", service.port)) != 0
    finally:
        service.end()
