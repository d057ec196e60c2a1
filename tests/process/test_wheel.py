"""The wheel, installed where nothing else is."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.real.service import Service, missing

REPOSITORY = Path(__file__).parents[2]
CONSTRAINTS = REPOSITORY / "constraints.txt"


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel with what is installed already."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"]
    done = run(*command, "--wheel-dir", folder, REPOSITORY)
    if done.returncode != 0 and _unreachable(done.stderr):
        missing("pip cannot reach a package index for what builds the wheel")
    assert done.returncode == 0, done.stderr
    [built] = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the programs of a virtual environment that has only the wheel and what it needs."""
    folder = tmp_path_factory.mktemp("empty")
    assert run(sys.executable, "-m", "venv", "--without-pip", folder).returncode == 0
    # Compiling all that it needs would take longer than what is tried here.
    pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python"), "install"]
    done = run(*pip, "--quiet", "--no-compile", "--constraint", CONSTRAINTS, wheel)
    if done.returncode != 0 and _unreachable(done.stderr):
        missing("pip cannot reach a package index to install the wheel from")
    assert done.returncode == 0, done.stderr
    return folder / "bin"


def _unreachable(errors: str) -> bool:
    return "NewConnectionError" in errors or "No matching distribution found" in errors


def test_contents(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert "twisted/plugins/imgservice_plugin.py" in names
    assert "twisted/__init__.py" not in names
    assert "twisted/plugins/__init__.py" not in names
    assert "imgservice/py.typed" in names
    assert not [name for name in names if name.startswith(("tests/", "bench/", "var/"))]


def test_twistd_knows_it(installed: Path, tmp_path: Path) -> None:
    done = run(installed / "twistd", "imgservice", "--help")
    assert done.returncode == 0, done.stderr
    assert "--config=" in done.stdout
    assert run(installed / "imgservice", "--version").returncode == 0


def test_service_starts_from_it(installed: Path, tmp_path: Path) -> None:
    service = Service(tmp_path)
    service.command = (installed / "imgservice", "run")
    try:
        client = service.start().client
        assert client.download(client.active(b"from a wheel")).body == b"from a wheel"
        service.stop()
    finally:
        service.end()
