"""`imgservice status` and `imgservice drain`, as operators and their scripts use them."""

import json
import os
import signal
import socket
from pathlib import Path

import pytest

from tests.process.load import SHOW, load
from tests.process.observed import ObservedService, observed, server_options
from tests.real.client import receive
from tests.real.commands import Command, run_command
from tests.real.service import IMGSERVICE, wait_until
from tests.real.streams import upload_head

HOW_MANY = pytest.mark.parametrize("workers", [0, 2], ids=["alone", "workers"])


def _begun(service: ObservedService, *command: str) -> Command:
    return Command(IMGSERVICE, *command, "--config", service.config, cwd=service.directory)


def _run(service: ObservedService, *command: str) -> tuple[int, str, str]:
    """Return the exit code and what was printed."""
    done = run_command(IMGSERVICE, *command, "--config", service.config, cwd=service.directory)
    return done.returncode, done.stdout, done.stderr


def _health(service: ObservedService) -> set[int]:
    """Return what all workers say: each of many new connections goes to one of them."""
    return {service.client.get("/healthcheck").status for _ in range(20)}


def _refuses(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


# -- status ---------------------------------------------------------------------------------------


@HOW_MANY
def test_status(tmp_path: Path, workers: int) -> None:
    with observed(tmp_path, server_options(workers)) as service:
        code, output, errors = _run(service, "status")
        assert (code, errors) == (0, "")
        first, second, *others = output.splitlines()
        assert first.startswith(f"serving, process {service.pid}, since ")
        assert second == (
            f"configuration number 1, listening on tcp:{service.port}:interface=127.0.0.1"
        )
        pids = service.pids()
        for index, (line, pid) in enumerate(zip(others, pids, strict=True)):
            assert line.startswith(f"worker {index}: process {pid} ready since ")
            assert ", configuration 1, " in line

        code, output, errors = _run(service, "status", "--json")
        state = json.loads(output)
        assert (code, errors, state["phase"], state["pid"]) == (0, "", "serving", service.pid)
        assert [one["pid"] for one in state["workers"]] == pids
        assert state["trouble"] is None


@pytest.mark.parametrize("workers", [0])
def test_status_of_one_that_does_not_run(tmp_path: Path, workers: int) -> None:
    with observed(tmp_path, server_options(workers)) as service:
        pass
    code, output, errors = _run(service, "status")
    assert (code, output) == (3, "")
    assert errors == "imgservice: not running, according to var/imgservice.state\n"
    assert _run(service, "status", "--json")[0] == 3
    assert _run(service, "drain")[0] == 3


def test_status_of_one_that_was_killed(tmp_path: Path) -> None:
    service = ObservedService(tmp_path, server_options(0))
    service.make_tables()
    try:
        service.start()
        service.until(1)
        service.kill()
        assert (tmp_path / "var" / "imgservice.state").exists()
        assert _run(service, "status")[0] == 3
    finally:
        service.end()


def test_status_when_a_worker_is_missing(tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text("{}\n")
    options = {**server_options(2), "policy": {"file": str(policy)}}
    with observed(tmp_path, options) as service:
        policy.write_text("get_images: [this is no rule\n")  # of no concern to those that run
        os.kill(service.pids()[0], signal.SIGKILL)
        wait_until(lambda: "failed to start" in str(service.state()["trouble"]))
        code, output, _ = _run(service, "status")
        assert code == 1
        assert "trouble: a worker failed to start: policy: " in output
        policy.write_text("{}\n")
        service.until(2)
        wait_until(lambda: _run(service, "status")[0] == 0)


def test_status_tells_of_a_failed_reload(tmp_path: Path) -> None:
    with observed(tmp_path, server_options(0)) as service:
        service.reconfigure({**server_options(0), "default_store": "nowhere"})
        wait_until(lambda: service.state()["trouble"])
        service.config.write_text(json.dumps(service.options))  # so that it can be asked
        code, output, _ = _run(service, "status")
        assert code == 0  # it serves, as before
        assert "trouble: reload: " in output


def test_status_without_a_state_file(tmp_path: Path) -> None:
    service = ObservedService(tmp_path, server_options(0, state_file=None))
    code, output, errors = _run(service, "status")
    assert (code, output) == (1, "")
    assert errors == "Error: server.state_file is null: the state of the service is unknown\n"


# -- drain ----------------------------------------------------------------------------------------


@HOW_MANY
def test_drain_and_back(tmp_path: Path, workers: int) -> None:
    """No connections are accepted then; requests under way are finished."""
    with observed(tmp_path, server_options(workers, drain_delay=1)) as service:
        client = service.client
        image_id = client.create()
        with client.connect() as idle, client.connect() as upload:
            idle.sendall(SHOW % image_id.encode())
            assert receive(idle).status == 200
            upload.sendall(upload_head(image_id, "Content-Length: 1000") + bytes(500))
            wait_until(lambda: client.show(image_id)["status"] == "saving")
            draining = _begun(service, "drain")
            wait_until(lambda: _refuses(service.port))
            assert idle.recv(1) == b""
            assert draining.poll() is None
            upload.sendall(bytes(500))
            assert receive(upload).status == 204
        output, errors = draining.communicate(timeout=120)
        assert (draining.returncode, output, errors) == (0, "drained\n", "")
        assert _run(service, "status")[0] == 1
        assert _run(service, "drain", "--undo")[:2] == (0, "back in rotation\n")
        assert _health(service) == {200}
        assert client.show(image_id)["status"] == "active"
        assert _run(service, "status")[0] == 0


@HOW_MANY
def test_health_checks_are_refused_first(tmp_path: Path, workers: int) -> None:
    """Requests that come nevertheless are served."""
    with observed(tmp_path, server_options(workers, drain_delay=600)) as service:
        client = service.client
        image_id = client.create()
        with client.connect() as idle:
            idle.sendall(SHOW % image_id.encode())
            assert receive(idle).status == 200
            service.signal(signal.SIGUSR1)
            wait_until(lambda: _health(service) == {503})
            assert client.get("/healthcheck").body == b"DRAINING"
            code, output, _ = _run(service, "status")
            assert code == 1
            assert output.startswith("draining, process ")
            assert client.upload(image_id, b"data").status == 204
            idle.sendall(SHOW % image_id.encode())
            assert receive(idle).json()["status"] == "active"


@pytest.mark.parametrize("workers", [2])
def test_drain_undone_in_time(tmp_path: Path, workers: int) -> None:
    with observed(tmp_path, server_options(workers, drain_delay=600)) as service:
        assert _run(service, "drain", "--no-wait")[:2] == (0, "draining\n")
        wait_until(lambda: _health(service) == {503})
        code, _, errors = _run(service, "drain", "--timeout", "0.5")
        assert (code, errors.startswith("Error: still draining after 0.5 seconds, ")) == (1, True)
        assert _run(service, "drain", "--undo")[0] == 0
        wait_until(lambda: _health(service) == {200})


@HOW_MANY
def test_nothing_fails_under_load(tmp_path: Path, workers: int) -> None:
    """Clients stay away when health checks are refused, as those of a load balancer do."""
    with observed(tmp_path, server_options(workers, drain_delay=600)) as service:
        with load(service.client, service.client.active(b"data")) as state:
            wait_until(lambda: all(state.done.get(kind, 0) for kind in ("download", "upload")))
            assert _run(service, "drain", "--no-wait")[0] == 0
            wait_until(lambda: _health(service) == {503})
            _goes_on(state.done)
            state.stop.set()
        assert state.failures == []
        with load(service.client, service.client.active(b"data")) as state:
            _goes_on(state.done)
            assert _run(service, "drain", "--undo")[0] == 0
            _goes_on(state.done)
        assert state.failures == []


def _goes_on(done: dict[str, int]) -> None:
    before = sum(done.values())
    wait_until(lambda: sum(done.values()) > before + 30)


@pytest.mark.parametrize("workers", [2])
def test_a_drained_service_ends_as_any_other(tmp_path: Path, workers: int) -> None:
    with observed(tmp_path, server_options(workers, drain_delay=0)) as service:
        assert _run(service, "drain")[0] == 0
        wait_until(lambda: _refuses(service.port))
