"""The programs in interpreters of their own: most other tests fork them from a warm one."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.process.observed import ObservedService, server_options
from tests.real.commands import run_command
from tests.real.service import IMGSERVICE, TWISTD, Service

RUN_BY_TWISTD = (TWISTD, "--nodaemon", "--pidfile=", "imgservice")
COMMANDS: Sequence[Sequence[str | Path]] = (
    (IMGSERVICE,),
    (IMGSERVICE, "no-such-command"),
    (IMGSERVICE, "check", "--config", "c.yaml"),
    (IMGSERVICE, "convert-config", "glance-api.conf"),
    (IMGSERVICE, "db", "purge", "--age-in-days", "x"),
    (IMGSERVICE, "policy", "list"),
    (IMGSERVICE, "run", "--config", "wrong.yaml"),
    (IMGSERVICE, "status", "--config", "c.yaml"),
    (IMGSERVICE, "token", "list", "--config", "c.yaml"),
    (*RUN_BY_TWISTD, "--config", "wrong.yaml"),
)


def _place(folder: Path) -> Path:
    folder.mkdir()
    (folder / "c.yaml").write_text("database: {url: 'sqlite:///images.db'}\n")
    (folder / "wrong.yaml").write_text("servr: {}\n")
    (folder / "glance-api.conf").write_text("[DEFAULT]\nbind_host = 127.0.0.1\n")
    return folder


@pytest.mark.parametrize(
    "command", COMMANDS, ids=lambda words: " ".join([Path(words[0]).name, *words[1:]])
)
def test_a_forked_program_says_what_the_real_one_says(
    tmp_path: Path, command: Sequence[str | Path]
) -> None:
    real = subprocess.run(
        command, cwd=_place(tmp_path / "real"), capture_output=True, text=True, timeout=60
    )
    forked = run_command(*command, cwd=_place(tmp_path / "fork"))
    assert "Traceback" not in real.stderr
    said = (real.returncode, real.stdout, real.stderr.replace("/real/", "/fork/"))
    assert (forked.returncode, forked.stdout, forked.stderr) == said


@pytest.mark.parametrize("command", [(IMGSERVICE, "run"), RUN_BY_TWISTD], ids=["run", "twistd"])
def test_the_real_one_serves(tmp_path: Path, command: Sequence[str | Path]) -> None:
    service = Service(tmp_path)
    service.command, service.is_cold = command, True
    try:
        service.start()
        assert service.client.download(service.client.active(b"data")).body == b"data"
        service.stop()
    finally:
        service.end()


def test_the_real_one_has_workers(tmp_path: Path) -> None:
    service = ObservedService(tmp_path, server_options(2))
    service.is_cold = True
    try:
        service.start()
        service.until(2)
        assert service.client.download(service.client.active(b"data")).body == b"data"
        service.stop()
    finally:
        service.end()
