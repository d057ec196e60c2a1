"""Under systemd: its sockets, and the messages to it. The manager itself is not needed for that."""

import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from imgservice.concurrency.file_watch import INTERVAL
from imgservice.process.workers import SILENCE
from tests.process.load import SHOW
from tests.process.observed import ObservedService, server_options
from tests.process.systemd import Manager, manager, told
from tests.real.client import receive
from tests.real.service import TWISTD, missing, wait_until
from tests.real.streams import upload_head

HOW_MANY = pytest.mark.parametrize("workers", [0, 2], ids=["alone", "workers"])
TCP = "systemd:domain=INET:name=api"
UNIX = "systemd:domain=UNIX:name=local"


# -- sockets --------------------------------------------------------------------------------------


def _activated(directory: Path, options: dict[str, Any], names: str) -> ObservedService:
    """Return a service that systemd starts with the first connection."""
    program = shutil.which("systemd-socket-activate")
    if program is None:
        missing("systemd-socket-activate is not installed (Debian: systemd)")
    service = ObservedService(directory, options)
    tcp, path = f"127.0.0.1:{service.port}", directory / "socket"
    service.prefix = [program, "-l", tcp, "-l", str(path), f"--fdname={names}"]
    service.make_tables()
    return service


def _asked(path: Path, request: bytes = SHOW % b"none") -> int:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(60)
        connection.connect(str(path))
        connection.sendall(request)
        return receive(connection).status


@HOW_MANY
def test_named_sockets_start_the_service_on_demand(tmp_path: Path, workers: int) -> None:
    service = _activated(tmp_path, server_options(workers, listen=[TCP, UNIX]), "api:local")
    path = tmp_path / "socket"
    try:
        service.start()
        service.until(workers or 1)
        path.chmod(0o640)
        before = path.stat()
        for _ in range(10):
            assert service.client.get("/healthcheck").status == 200
            assert _asked(path) == 404
        service.signal(signal.SIGHUP)
        service.until(workers or 1, 2)
        assert service.client.get("/healthcheck").status == 200
        assert _asked(path) == 404
        wait_until(lambda: service.workers("retiring") == [])
        for pid in service.descendants():
            names = Path(f"/proc/{pid}/environ").read_bytes()
            assert b"LISTEN_" not in names
        service.stop()
        after = path.stat()
        assert (after.st_ino, after.st_mode) == (before.st_ino, before.st_mode)
    finally:
        service.end()


def test_a_drained_service_gets_its_sockets_back(tmp_path: Path) -> None:
    options = server_options(2, listen=[TCP, UNIX], drain_delay=0)
    service = _activated(tmp_path, options, "api:local")
    try:
        service.start()
        service.until(2)
        service.signal(signal.SIGUSR1)
        wait_until(lambda: service.state()["phase"] == "drained")
        service.signal(signal.SIGUSR2)
        wait_until(lambda: service.state()["phase"] == "serving")
        assert service.client.get("/healthcheck").status == 200
        assert _asked(tmp_path / "socket") == 404
        service.stop()
    finally:
        service.end()


@pytest.mark.parametrize("workers", [0])
def test_a_missing_name_is_one_clear_line(tmp_path: Path, workers: int) -> None:
    service = _activated(tmp_path, server_options(workers, listen=[TCP, UNIX]), "api:other")
    try:
        with suppress(AssertionError):  # the connection ends sooner or later
            service.start()
        assert service.wait() == 1
        said = [one for one in service.said.read_text().splitlines() if "imgservice:" in one]
        [line] = said
        assert f"{service.config.name}:" in line
        assert line.endswith(
            f": server.listen[1]: cannot listen on {UNIX}: systemd passed no such socket"
        )
        assert "Traceback" not in service.said.read_text() + service.log.read_text()
    finally:
        service.end()


@HOW_MANY
def test_no_plugin_is_searched_for_a_socket(tmp_path: Path, workers: int) -> None:
    plugins = tmp_path / "packages" / "twisted" / "plugins"
    plugins.mkdir(parents=True)
    (plugins / "other.py").write_text("print('a plugin was loaded')\n")
    # Nobody can write this, root neither: with an installation that may only be read it is so.
    (plugins / "dropin.cache").mkdir()
    options = server_options(workers, listen=["systemd:domain=INET:index=0", UNIX])
    service = _activated(tmp_path, options, "api:local")
    service.prefix = ["env", f"PYTHONPATH={tmp_path / 'packages'}", *service.prefix,
                      f"--setenv=PYTHONPATH={tmp_path / 'packages'}"]  # fmt: skip
    try:
        service.start()
        service.until(workers or 1)
        assert _asked(tmp_path / "socket") == 404
        service.stop()
    finally:
        service.end()
    told = service.log.read_text() + service.said.read_text()
    assert "a plugin was loaded" not in told
    assert "plugin cache" not in told
    assert [path.name for path in plugins.rglob("*.pyc")] == []


# -- messages to systemd --------------------------------------------------------------------------


@HOW_MANY
def test_it_tells_of_its_life(tmp_path: Path, workers: int) -> None:
    service = ObservedService(tmp_path, server_options(workers, drain_delay=0))
    with manager(tmp_path) as listener, told(service, listener, workers):
        ready = listener.until("READY", "1")
        assert ready.fields["MAINPID"] == str(service.pid)
        count = workers or 1
        assert ready.fields["STATUS"] == f"serving with {count} process(es), configuration 1"
        assert not listener.all_of("WATCHDOG")
        listener.told.clear()

        began = time.monotonic_ns() // 1000
        service.signal(signal.SIGHUP)
        reloading = listener.until("RELOADING", "1")
        assert began <= int(reloading.fields["MONOTONIC_USEC"]) <= time.monotonic_ns() // 1000
        ready = listener.until("READY", "1")
        assert listener.told.index(ready) > listener.told.index(reloading)
        assert ready.fields["STATUS"] == f"serving with {count} process(es), configuration 2"
        wait_until(lambda: service.workers("retiring") == [])

        service.signal(signal.SIGUSR1)
        listener.until("STATUS", "drained, no more connections are accepted")
        service.signal(signal.SIGUSR2)
        listener.until("STATUS", f"serving with {count} process(es), configuration 2")
        service.stop()
        listener.until("STOPPING", "1")


def test_a_reload_that_fails_ends_as_well(tmp_path: Path) -> None:
    service = ObservedService(tmp_path, server_options(0))
    with manager(tmp_path) as listener, told(service, listener, 0):
        listener.until("READY", "1")
        listener.told.clear()
        service.config.write_text("servr: {}\n")
        service.signal(signal.SIGHUP)
        listener.until("RELOADING", "1")
        ready = listener.until("READY", "1")
        assert ready.fields["STATUS"] == "serving with 1 process(es), configuration 1"


def test_an_abstract_socket_is_found(tmp_path: Path) -> None:
    service = ObservedService(tmp_path, server_options(0))
    with manager(tmp_path, is_abstract=True) as listener, told(service, listener, 0):
        assert listener.until("READY", "1").fields["MAINPID"] == str(service.pid)


def test_workers_cannot_speak_for_the_service(tmp_path: Path) -> None:
    service = ObservedService(tmp_path, server_options(2))
    with manager(tmp_path) as listener, told(service, listener, 2, WATCHDOG_USEC=2_000_000):
        for pid in service.pids():
            names = Path(f"/proc/{pid}/environ").read_bytes()
            assert b"NOTIFY_SOCKET" not in names
            assert b"WATCHDOG" not in names


@pytest.mark.parametrize("workers", [2])
def test_more_time_is_asked_for_while_transfers_end(tmp_path: Path, workers: int) -> None:
    service = ObservedService(tmp_path, server_options(workers, shutdown_grace=60))
    with manager(tmp_path) as listener, told(service, listener, workers):
        image_id = service.client.create()
        with service.client.connect() as upload:
            upload.sendall(upload_head(image_id, "Content-Length: 1000") + bytes(500))
            wait_until(lambda: service.client.show(image_id)["status"] == "saving")
            service.signal(signal.SIGTERM)
            listener.until("STOPPING", "1")
            # Each time for half a minute, so that one which no longer gets on is ended soon.
            wait_until(lambda: len(listener.all_of("EXTEND_TIMEOUT_USEC")) >= 4)
            upload.sendall(bytes(500))
            assert receive(upload).status == 204
        assert service.wait() == -signal.SIGTERM
        asked = listener.all_of("EXTEND_TIMEOUT_USEC")
        assert {one.fields["EXTEND_TIMEOUT_USEC"] for one in asked} == {"30000000"}
        pauses = [after.at - before.at for before, after in pairwise(asked)]
        assert max(pauses) < 30


# -- signs of life --------------------------------------------------------------------------------


def _until_it_lives(listener: Manager, later: float = 0) -> None:
    """Wait for a sign of life that is given so many seconds from now, or later."""
    at = time.monotonic() + later
    wait_until(lambda: any(one.at > at for one in listener.all_of("WATCHDOG")))


def _until_it_is_silent(listener: Manager) -> None:
    """Wait until there is no sign of life for two seconds."""

    def is_silent() -> bool:
        signs = listener.all_of("WATCHDOG")
        return not signs or time.monotonic() - signs[-1].at > 2

    wait_until(is_silent)


@pytest.mark.parametrize("workers", [2])
def test_signs_of_life_come_often_enough(tmp_path: Path, workers: int) -> None:
    service = ObservedService(tmp_path, server_options(workers))
    with manager(tmp_path) as listener, told(service, listener, workers, WATCHDOG_USEC=1_000_000):
        wait_until(lambda: len(listener.all_of("WATCHDOG")) >= 12)
        told_at = [one.at for one in listener.all_of("WATCHDOG")]
        # Not the longest pause: on a busy machine one or the other may take any time.
        assert median(after - before for before, after in pairwise(told_at)) < 1


def test_no_signs_of_life_when_all_workers_are_stuck(tmp_path: Path) -> None:
    service = ObservedService(tmp_path, server_options(2, hang_limit=0))
    with manager(tmp_path) as listener, told(service, listener, 2, WATCHDOG_USEC=2_000_000):
        first, second = pids = service.pids()
        try:
            os.kill(first, signal.SIGSTOP)
            # One is enough to go on.
            _until_it_lives(listener, SILENCE + 2)
            os.kill(second, signal.SIGSTOP)
            _until_it_is_silent(listener)
            os.kill(second, signal.SIGCONT)
            _until_it_lives(listener)
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)
        assert service.pids() == pids


def test_one_that_is_stuck_gives_no_sign_and_tells_where_it_is(tmp_path: Path) -> None:
    policy, pipe, log = tmp_path / "policy.yaml", tmp_path / "pipe", tmp_path / "log"
    policy.write_text("{}\n")
    options = {
        **server_options(0, hang_limit=3),
        "policy": {"file": str(policy)},
        "logging": {"file": str(log)},
    }
    service = ObservedService(tmp_path, options)
    with manager(tmp_path) as listener, told(service, listener, 0, WATCHDOG_USEC=2_000_000):
        _until_it_lives(listener)
        log.rename(tmp_path / "rotated")  # what is written in need goes where the log is now
        service.client.get("/v2/images")
        wait_until(log.exists)
        _until_it_lives(listener, INTERVAL + 1)  # the next request looks at the file again
        os.mkfifo(pipe)
        pipe.rename(policy)  # to open it takes as long as a file server that does not answer
        answers: list[int] = []
        asking = threading.Thread(
            target=lambda: answers.append(service.client.get("/v2/images").status)
        )
        asking.start()
        wait_until(lambda: "Timeout (0:00:03)!" in log.read_text())
        # It is written bit by bit. The contents are compared before they are read for good, so it
        # hangs in `read_bytes`.
        stuck = r'pathlib\.py", line \d+ in read_(bytes|text)\n'
        wait_until(lambda: re.search(stuck, log.read_text()))
        wait_until(lambda: "imgservice/concurrency/file_watch.py" in log.read_text())
        _until_it_is_silent(listener)
        assert answers == []
        with policy.open("w") as writer:  # the other end reads, and goes on
            (tmp_path / "new").write_text("{}\n")
            (tmp_path / "new").rename(policy)
            writer.write("{}\n")
        asking.join()
        assert answers == [200]
        _until_it_lives(listener)
        wait_until(lambda: "The reactor did not turn for" in log.read_text())
        service.stop()


def test_none_is_taken_for_stuck_between_two_signs_of_life(tmp_path: Path) -> None:
    service = ObservedService(tmp_path, server_options(0, hang_limit=0.1))
    with manager(tmp_path) as listener, told(service, listener, 0, WATCHDOG_USEC=2_000_000):
        wait_until(lambda: len(listener.all_of("WATCHDOG")) >= 4)
        log = service.log.read_text()
    # On a busy machine it may really have been stuck for longer.
    assert "did not turn for 0 s" not in log and "did not turn for 1 s" not in log
    assert log.count("Timeout") <= log.count("did not turn for") + 1


@pytest.mark.parametrize("workers", [2])
def test_a_manager_that_does_not_listen_holds_nobody_up(tmp_path: Path, workers: int) -> None:
    service = ObservedService(tmp_path, server_options(workers))
    with (
        manager(tmp_path, listens=False) as listener,
        told(service, listener, workers, WATCHDOG_USEC=100_000),
    ):
        # The kernel keeps about ten messages for it, which are there in a second.
        for generation in (2, 3):
            time.sleep(2)
            assert service.client.get("/healthcheck").status == 200
            service.signal(signal.SIGHUP)
            service.until(workers or 1, generation)
        service.stop()


# -- the units of conf/ ---------------------------------------------------------------------------


UNITS = Path(__file__).parents[2] / "conf" / "systemd"


@pytest.fixture
def units(tmp_path: Path) -> list[Path]:
    """Return copies of the units, with our own programs in place of the installed ones."""
    found = []
    for unit in sorted(UNITS.iterdir()):
        copy = tmp_path / unit.name
        copy.write_text(unit.read_text().replace("/opt/imgservice/bin/", f"{TWISTD.parent}/"))
        found.append(copy)
    return found


def _analyzed(*command: str | Path) -> str:
    program = shutil.which("systemd-analyze")
    if program is None:
        missing("systemd-analyze is not installed (Debian: systemd)")
    done = subprocess.run([program, *command], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_units_have_no_mistake(units: list[Path]) -> None:
    assert _analyzed("verify", "--man=no", *units) == ""


def test_the_service_is_shut_in(units: list[Path]) -> None:
    service = next(one for one in units if one.name == "imgservice.service")
    # In tenths. The how-to tells what systemd 252 finds, which is 13; others weigh other things.
    _analyzed("security", "--offline=true", "--threshold=20", "--no-pager", service)


def test_the_commands_of_the_unit_work(tmp_path: Path, units: list[Path]) -> None:
    """Run them as they are written, with our configuration, in what systemd makes beside them."""
    text = next(one for one in units if one.name == "imgservice.service").read_text()
    service = ObservedService(tmp_path, server_options(0))
    service.make_tables()
    for name in ("ExecStartPre", "ExecStart"):
        [line] = [one for one in text.splitlines() if one.startswith(f"{name}=")]
        command = line.partition("=")[2].replace("/etc/imgservice/imgservice.yaml", "{config}")
        words = [one.format(config=service.config) for one in command.split()]
        if name == "ExecStartPre":
            subprocess.run(words, cwd=tmp_path, check=True, capture_output=True, timeout=120)
    with manager(tmp_path) as listener:
        process = subprocess.Popen(
            words, cwd=tmp_path, env={"NOTIFY_SOCKET": listener.address},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        try:
            ready = listener.until("READY", "1")
            assert ready.fields["MAINPID"] == str(process.pid)
            process.terminate()
            output, _ = process.communicate(timeout=120)
            assert process.returncode == -signal.SIGTERM, output
        finally:
            process.kill()
            process.wait()
