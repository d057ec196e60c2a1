"""`imgservice run`: the service in the foreground, without what twistd does besides."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from imgservice import __version__
from tests.process.observed import ObservedService, server_options
from tests.real.commands import run_command
from tests.real.service import IMGSERVICE, Service, wait_until
from tests.real.streams import upload_head


def _said(service: Service) -> str:
    return service.said.read_text()


@pytest.fixture(params=[0, 2], ids=["alone", "workers"])
def service(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[ObservedService]:
    service = ObservedService(tmp_path, server_options(request.param, shutdown_grace=300))
    try:
        service.start()
        service.until(request.param or 1)
        yield service
    finally:
        service.end()


def _begin_upload(service: ObservedService, open_until: ExitStack) -> str:
    """Begin an upload that will not go on, and wait until the process that we signal knows."""
    image_id = service.client.create()
    upload = open_until.enter_context(service.client.connect())
    upload.sendall(upload_head(image_id, "Content-Length: 1000000") + bytes(400_000))
    wait_until(lambda: service.client.show(image_id)["status"] == "saving")
    wait_until(lambda: sum(one["transfers"] for one in service.state()["workers"]) == 1)
    return image_id


def test_the_second_interrupt_ends_at_once(service: ObservedService) -> None:
    with ExitStack() as stack:
        image_id, pids = _begin_upload(service, stack), service.pids()
        service.signal(signal.SIGINT)
        wait_until(lambda: "press Ctrl-C again to stop at once" in _said(service))
        assert (
            "stopping: 1 request under way, 1 transfer among them; waiting up to 300 seconds"
        ) in _said(service)
        time.sleep(1)
        assert service.rows("SELECT status FROM images") == [("saving",)]  # it waits
        service.signal(signal.SIGINT)
        assert service.wait(60) == -signal.SIGINT
    assert "stopped at once" in _said(service)
    assert "Traceback" not in service.log.read_text() + _said(service)
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))
    assert not (service.directory / "var" / "imgservice.state").exists()
    # The next start finds what was left, as after a crash.
    service.start()
    wait_until(lambda: service.client.show(image_id)["status"] == "queued", 120)
    wait_until(service.is_at_rest)
    service.stop()


def test_one_interrupt_ends_in_peace_however_often_it_is_told(service: ObservedService) -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM):
        service.signal(number)
    assert service.wait() in (-signal.SIGTERM, -signal.SIGINT)
    service.assert_clean()
    assert "Server Shut Down." in service.log.read_text()


def test_nothing_of_twistd_is_left_in_the_folder(tmp_path: Path) -> None:
    plugins = tmp_path / "packages" / "twisted" / "plugins"
    plugins.mkdir(parents=True)
    (plugins / "other.py").write_text("raise SystemExit('a plugin was loaded')\n")
    service = Service(tmp_path)
    service.environment, service.is_cold = {"PYTHONPATH": str(tmp_path / "packages")}, True
    try:
        service.start()
        wait_until(lambda: "try:" in _said(service))
        assert f"imgservice {__version__} listens on" in _said(service)
        service.stop()
    finally:
        service.end()
    assert [path.name for path in plugins.iterdir()] == ["other.py"]
    assert not list(tmp_path.glob("**/*.pid"))
    assert "twistd" not in service.log.read_text()


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--uid", "no-such-user"], "there is no user 'no-such-user'"),
        (["--gid", "no-such-group"], "there is no group 'no-such-group'"),
        (["--nodaemon"], "No such option"),
        (["--config", "missing.yaml"], "missing.yaml: cannot be read: No such file or directory"),
    ],
)
def test_mistakes_on_the_command_line(tmp_path: Path, options: list[str], complaint: str) -> None:
    done = run_command(IMGSERVICE, "run", *options, cwd=tmp_path)
    assert done.returncode != 0
    assert complaint in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", ["", "run", "db", "db upgrade", "token create", "policy"])
def test_help_has_a_short_name(command: str) -> None:
    short, long = (run_command(IMGSERVICE, *command.split(), name) for name in ("-h", "--help"))
    assert (short.returncode, short.stdout) == (long.returncode, long.stdout)
    assert short.returncode == 0
    assert "Usage: imgservice" in short.stdout


def test_the_shell_completes_commands(tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "_IMGSERVICE_COMPLETE": "bash_complete",
        "COMP_WORDS": "imgservice r",
        "COMP_CWORD": "1",
    }
    done = run_command(IMGSERVICE, env=environment)
    assert done.stdout.split() == ["plain,run"]
