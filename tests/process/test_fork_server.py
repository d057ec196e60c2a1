"""The fork server: what a child has and shares, and what happens when it dies or is replaced."""

import ctypes
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

import imgservice
from tests.process.observed import ObservedService, descriptors, observed, server_options
from tests.real.service import IMGSERVICE, wait_until

SYS_KCMP = 312
"""On x86-64."""
KCMP_FILE = 0


@pytest.fixture(scope="module", params=[True, False], ids=["cold", "forked"])
def service(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ObservedService]:
    directory = tmp_path_factory.mktemp("service")
    with observed(directory, server_options(3), is_cold=request.param) as running:
        yield running


def _fork_server(service: ObservedService) -> int:
    [pid] = service.children()
    return pid


def _epolls(pid: int) -> list[tuple[int, int]]:
    found = descriptors(pid).items()
    return [(pid, number) for number, target in found if target == "anon_inode:[eventpoll]"]


def _are_same(first: tuple[int, int], second: tuple[int, int]) -> bool:
    """Tell whether two descriptors of two processes are one open file."""
    libc = ctypes.CDLL(None, use_errno=True)
    result = libc.syscall(SYS_KCMP, first[0], second[0], KCMP_FILE, first[1], second[1])
    if result < 0:
        pytest.skip(f"kcmp: {os.strerror(ctypes.get_errno())}")
    return bool(result == 0)


def test_it_has_nothing_that_children_must_not_share(service: ObservedService) -> None:
    pid = _fork_server(service)
    assert len(list(Path(f"/proc/{pid}/task").iterdir())) == 1
    assert _epolls(pid) == []
    others = {n: target for n, target in descriptors(pid).items() if n > 2}
    assert [target.partition(":")[0] for target in others.values()] == ["socket"], others


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the number of kcmp is another one")
def test_no_two_processes_share_an_epoll_descriptor(service: ObservedService) -> None:
    epolls = [one for pid in (service.pid, *service.pids()) for one in _epolls(pid)]
    assert len(epolls) >= 4
    assert _are_same(epolls[0], epolls[0])
    pairs = [(a, b) for a in epolls for b in epolls if a < b]
    assert [pair for pair in pairs if _are_same(*pair)] == []


def test_workers_share_the_memory_of_what_is_imported(service: ObservedService) -> None:
    for pid in service.pids():
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
        sizes = {line.split(":")[0]: int(line.split()[1]) for line in lines}
        # A process that has imported it all by itself has 56 MiB of its own.
        assert sizes["Pss"] < 0.75 * sizes["Rss"], sizes


def test_workers_have_no_more_than_they_are_given(service: ObservedService) -> None:
    for pid in service.pids():
        assert Path(f"/proc/{pid}/stat").read_text().split()[3] == str(_fork_server(service))
        targets = list(descriptors(pid).values())
        assert targets.count(f"{service.output}") <= 2, targets


def _title(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").decode()


def test_ps_tells_which_process_is_which(service: ObservedService) -> None:
    assert _title(_fork_server(service)) == "imgservice-fork-server"
    for worker in service.workers():
        assert _title(worker["pid"]) == f"imgservice-worker slot={worker['slot']} generation=1"


def test_workers_go_on_when_it_dies(tmp_path: Path) -> None:
    with observed(tmp_path, server_options(2)) as service:
        before, dead = service.pids(), _fork_server(service)
        os.kill(dead, signal.SIGKILL)
        wait_until(lambda: "The fork server" in service.log.read_text())
        for _ in range(20):
            assert service.client.get("/healthcheck").status == 200
        assert service.pids() == before
        os.kill(before[0], signal.SIGKILL)
        wait_until(lambda: len(set(service.pids()) - set(before)) == 1)
        service.until(2)
        assert _fork_server(service) != dead
        service.signal(signal.SIGHUP)
        service.until(2, 2)
        assert "Traceback" not in service.log.read_text()


def test_a_reload_that_it_fails_changes_nothing(tmp_path: Path) -> None:
    with observed(tmp_path, server_options(1)) as service:
        before, hanging = service.pids(), _fork_server(service)
        os.kill(hanging, signal.SIGSTOP)
        service.signal(signal.SIGHUP)
        wait_until(lambda: "Reloading the configuration" in service.log.read_text())
        os.kill(hanging, signal.SIGKILL)  # in place of two minutes
        wait_until(lambda: "cannot be tried" in (service.state()["trouble"] or ""))
        assert service.pids() == before
        service.signal(signal.SIGHUP)
        service.until(1, 2)
        wait_until(lambda: service.state()["trouble"] is None)


def test_a_signal_to_all_processes_ends_them_once(tmp_path: Path) -> None:
    with observed(tmp_path, server_options(2)) as service:
        left = service.descendants()
        for pid in left:
            with suppress(ProcessLookupError):  # it has nothing left to do
                os.kill(pid, signal.SIGTERM)
        service.signal(signal.SIGTERM)
        assert service.wait() == -signal.SIGTERM
        wait_until(lambda: not [pid for pid in left if Path(f"/proc/{pid}").exists()])
        assert "Traceback" not in service.log.read_text()


def test_ctrl_c_while_it_imports_is_told_in_no_traceback(tmp_path: Path) -> None:
    service = ObservedService(tmp_path, server_options(2))
    command = [str(IMGSERVICE), "run", "--config", str(service.config)]
    with service.output.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=tmp_path, stdout=output, stderr=output, start_new_session=True
        )
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    wait_until(
        lambda: "imgservice-fork-server" in map(_title, map(int, children.read_text().split()))
    )
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(60) == -signal.SIGINT
    assert "Traceback" not in service.output.read_text()
    assert "fork server" not in service.output.read_text()


def test_a_reload_after_an_upgrade_starts_another_one(tmp_path: Path) -> None:
    packages = tmp_path / "packages"
    package = packages / "imgservice"  # one of its own, because other services run meanwhile
    shutil.copytree(Path(imgservice.__file__).parent, package)
    service = ObservedService(tmp_path, server_options(2))
    service.prefix = ("env", f"PYTHONPATH={packages}")
    try:
        service.start()
        service.until(2)
        first = _fork_server(service)
        service.signal(signal.SIGHUP)
        service.until(2, 2)
        assert service.children() == [first]
        os.utime(package / "__init__.py")
        service.signal(signal.SIGHUP)
        service.until(2, 3)
        wait_until(lambda: first not in service.children())
        assert len(service.children()) == 1
        assert sorted(service.forked()) == sorted(service.pids())
        service.stop()
    finally:
        service.end()


def test_a_stop_does_not_wait_for_one_that_hangs(tmp_path: Path) -> None:
    with observed(tmp_path, server_options(1, shutdown_grace=1)) as service:
        os.kill(_fork_server(service), signal.SIGSTOP)
        service.signal(signal.SIGTERM)
        assert service.wait() == -signal.SIGTERM


def test_one_that_hangs_is_killed_when_a_worker_is_to_be_replaced(tmp_path: Path) -> None:
    with observed(tmp_path, server_options(1, hang_limit=3)) as service:
        [worker], hanging = service.pids(), _fork_server(service)
        os.kill(hanging, signal.SIGSTOP)
        os.kill(worker, signal.SIGKILL)
        wait_until(lambda: service.pids() not in ([], [worker]))
        assert _fork_server(service) != hanging


def test_a_signal_without_a_name_is_told_by_its_number(tmp_path: Path) -> None:
    with observed(tmp_path, server_options(1)) as service:
        [worker], server = service.pids(), _fork_server(service)
        os.kill(worker, 40)
        wait_until(lambda: "it was ended by signal 40" in service.log.read_text())
        service.until(1)
        assert _fork_server(service) == server
