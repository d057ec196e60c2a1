"""The recipe of the container, without a daemon that follows it: its parts, as they are written."""

import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.real.client import Client
from tests.real.commands import run_command
from tests.real.service import IMGSERVICE, TWISTD, free_port, missing, wait_until

REPOSITORY = Path(__file__).parents[2]
RECIPE = REPOSITORY / "conf" / "container" / "Dockerfile"


def _instructions(name: str) -> Sequence[str]:
    text = RECIPE.read_text().replace("\\\n", " ")
    return re.findall(rf"^ *{name} +(.*)$", text, re.MULTILINE)


def test_the_wheel_is_built_from_what_is_copied(tmp_path: Path) -> None:
    ignored = RECIPE.with_name("Dockerfile.dockerignore").read_text().splitlines()
    for line in _instructions("COPY"):
        *sources, target = line.split()
        if line.startswith("--from"):
            continue
        for source in sources:
            assert f"!{source}" in ignored
            destination = tmp_path / "source" / target / ("" if target != "./" else source)
            if target.startswith("/"):
                assert (REPOSITORY / source).is_file()
            elif (REPOSITORY / source).is_dir():
                shutil.copytree(REPOSITORY / source, destination)
            else:
                destination.parent.mkdir(exist_ok=True)
                shutil.copy(REPOSITORY / source, destination)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"]
    command += ["--wheel-dir", str(tmp_path), str(tmp_path / "source")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    if "No matching distribution found" in done.stderr:
        missing("pip cannot reach a package index for what builds the wheel")
    assert done.returncode == 0, done.stderr
    assert len(list(tmp_path.glob("imgservice-*.whl"))) == 1


@pytest.fixture
def commands(tmp_path: Path) -> dict[str, list[str]]:
    """Return its commands, with our programs, port and paths in place of the container's."""
    port, data = free_port(), tmp_path / "data"
    data.mkdir()
    config = (RECIPE.with_name("imgservice.yaml")).read_text()
    # Not auto: the tests share their machine.
    config = config.replace("workers: auto", "workers: 1").replace("9292", str(port))
    (tmp_path / "imgservice.yaml").write_text(config.replace("/var/lib/imgservice", str(data)))
    found = {"port": [str(port)]}
    for name, line in (
        ("serve", "".join(_instructions("ENTRYPOINT"))),
        ("options", "".join(_instructions("CMD"))),
        ("probe", _instructions("HEALTHCHECK")[0].partition(" CMD ")[2]),
    ):
        words: list[str] = json.loads(line)  # else a shell would get the signals
        found[name] = [
            word.replace("/opt/imgservice/bin", str(TWISTD.parent))
            .replace("/etc/imgservice", str(tmp_path))
            .replace("9292", str(port))
            for word in words
        ]
    return found


def test_the_commands_work(tmp_path: Path, commands: dict[str, list[str]]) -> None:
    data = tmp_path / "data"
    created = run_command(
        IMGSERVICE, "token", "create", "--file", data / "tokens", "--project", "apollo",
        "--role", "member", "--user", "ci",
    )  # fmt: skip
    assert created.returncode == 0, created.stderr
    token = created.stdout.split()[-1]

    def probe() -> int:
        return subprocess.run(commands["probe"], capture_output=True, timeout=120).returncode

    assert probe() != 0
    with (tmp_path / "output").open("wb") as output:
        process = subprocess.Popen(
            [*commands["serve"], *commands["options"]], cwd=data, stdout=output, stderr=output
        )
    try:
        wait_until(lambda: probe() == 0, 60)
        client = Client("127.0.0.1", int(commands["port"][0]), {"X-Auth-Token": token})
        assert client.download(client.active(b"contained")).body == b"contained"
        process.send_signal(signal.SIGUSR1)  # as `imgservice drain`
        wait_until(lambda: probe() != 0)
        process.terminate()
        assert process.wait(60) == -signal.SIGTERM
        assert "Server Shut Down." in (tmp_path / "output").read_text()
    finally:
        process.kill()
        process.wait()
