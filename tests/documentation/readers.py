"""What reads the files that pages show: the service's own readers, wherever there is one."""

import ast
import json
import re
import shutil
import subprocess
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import yaml

from compare.sequences import load as load_sequences
from imgservice.auth.certificates import read_subjects
from imgservice.auth.users_file import read_users
from imgservice.concurrency.file_watch import Unreadable
from imgservice.config.errors import ConfigError
from imgservice.config.loader import load
from imgservice.domain.protections import everybody
from imgservice.policy.effective import read_policy
from imgservice.policy.files import Sources
from imgservice.policy.property_protections import (
    policies_permission,
    read_protections,
    roles_permission,
)
from tests.documentation.blocks import REPOSITORY, Block
from tests.real.service import TWISTD, missing

Reader = Callable[[Path], Any]
UNITS = REPOSITORY / "conf" / "systemd"


def read(block: Block, path: Path) -> None:
    """Read a block as what the name of its file says, or else its language."""
    reader = BY_NAME.get(Path(block.file or "").name) or BY_LANGUAGE[block.language]
    if "wrong" in block.words:
        with pytest.raises((ConfigError, Unreadable)):
            reader(path)
    else:
        reader(path)


def _configuration(path: Path) -> None:
    """Read it as the service does, with the secrets that it refers to."""
    for secret in re.findall(r"(?:url|password|secret): \{file: (\S+?)\}", path.read_text()):
        if not Path(secret).exists():
            Path(secret).parent.mkdir(parents=True, exist_ok=True)
            Path(secret).write_text("sqlite://")  # a URL, for want of something better
    load(path)


def _clouds(path: Path) -> None:
    clouds = yaml.safe_load(path.read_text())["clouds"]
    assert all(isinstance(one["auth"], Mapping) for one in clouds.values())


def _policy(path: Path) -> None:
    warnings = read_policy(Sources(path, [])).warnings
    # The file for properties may refer to a rule.
    assert all("none refers to it" in warning for warning in warnings), warnings


def _protections(path: Path) -> None:
    by_role = "_writer" not in path.read_text()
    read_protections(
        path, roles_permission if by_role else policies_permission(lambda _name: everybody)
    )


def _sequence(path: Path) -> None:
    folder = path.with_suffix(".d")
    folder.mkdir()
    common = REPOSITORY / "compare" / "sequences" / "common.yaml"
    if common.exists():
        shutil.copy(common, folder)
    shutil.copy(path, folder / "example.yaml")
    assert load_sequences(folder)


def _drop_in(path: Path) -> None:
    """Let systemd judge our units together with what an operator adds to them."""
    program = shutil.which("systemd-analyze")
    if program is None:
        missing("systemd-analyze is not installed (Debian: systemd)")
    folder = path.with_suffix(".units")
    for unit in UNITS.iterdir():
        folder.mkdir(exist_ok=True)
        text = unit.read_text().replace("/opt/imgservice/bin", str(TWISTD.parent))
        (folder / unit.name).write_text(text)
    added = folder / "imgservice.service.d"
    added.mkdir()
    shutil.copy(path, added / "override.conf")
    command: list[str | Path] = [program, "verify", "--man=no", folder / "imgservice.service"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def _shell(path: Path) -> None:
    done = subprocess.run(["bash", "-n", path], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


BY_NAME: Mapping[str, Reader] = {
    "users.yaml": read_users,
    "subjects.yaml": read_subjects,
    "policy.yaml": _policy,
    "clouds.yaml": _clouds,
    "example.yaml": _sequence,
    "property-protections.conf": _protections,
    "override.conf": _drop_in,
}
BY_LANGUAGE: Mapping[str, Reader] = {
    "sh": _shell,
    "yaml": _configuration,
    "json": lambda path: json.loads(path.read_text()),
    "toml": lambda path: tomllib.loads(path.read_text()),
    "python": lambda path: ast.parse(path.read_text()),
    "sql": lambda path: sa.text(path.read_text()),
    "text": lambda _path: None,
}
