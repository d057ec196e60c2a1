"""`imgservice check` finds what would go wrong, as the user that would run the service."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from imgservice.cli import main
from tests.process.test_privileges import environment, interpreter


class Place:
    """A folder with a configuration whose every file is in there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.options = {
            "database": {"url": f"sqlite:///{folder}/db/images.db"},
            "stores": {"local": {"type": "file", "path": f"{folder}/images"}},
            "server": {
                "state_file": f"{folder}/state/state",
                "listen": ["tcp:0:interface=127.0.0.1", f"unix:{folder}/run/socket"],
            },
            "logging": {"file": f"{folder}/log/log"},
        }
        (folder / "run").mkdir()
        (folder / "log").mkdir()

    def write(self) -> Path:
        path = self.folder / "c.yaml"
        path.write_text(yaml.safe_dump(self.options))
        return path

    def check(self) -> tuple[int, list[str]]:
        done = CliRunner().invoke(main, ["check", "-c", str(self.write())])
        return done.exit_code, done.stderr.splitlines()


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_what_is_missing_can_be_made(place: Place) -> None:
    code, said = place.check()
    assert (code, len(said)) == (0, 1)
    made = {path.name for path in place.folder.iterdir()} - {"c.yaml", "log", "run"}
    assert made == {"images"}


def test_options_are_not_printed_when_quiet(place: Place) -> None:
    path = str(place.write())
    loud, quiet = (CliRunner().invoke(main, ["check", "-c", path, *more]) for more in ([], ["-q"]))
    assert loud.stdout.startswith("server:")
    assert (quiet.exit_code, quiet.stdout, quiet.stderr) == (0, "", loud.stderr)


@pytest.mark.parametrize(
    ("taken", "option", "complaint"),
    [
        ("db", "database.url", "db is not a directory"),
        ("db/images.db/", "database.url", "db/images.db is a directory"),
        ("state", "server.state_file", "state is not a directory"),
        ("state/state/", "server.state_file", "state/state is a directory"),
        ("log", "logging.file", "log is not a directory"),
        ("log/log/", "logging.file", "log/log is a directory"),
        ("run", "server.listen[1]", "there is no directory"),
        ("images", "stores.local", "Not a directory: "),
    ],
)
def test_what_stands_in_the_way(place: Place, taken: str, option: str, complaint: str) -> None:
    path = place.folder / taken
    if path.is_dir():
        path.rmdir()
    if taken.endswith("/"):
        path.mkdir(parents=True)
    else:
        path.touch()
    code, [said] = place.check()
    assert code == 1
    assert "c.yaml:" in said
    assert f": {option}: " in said
    assert complaint in said


def test_all_of_it_is_told_at_once(place: Place) -> None:
    for name in ("db", "state"):
        (place.folder / name).touch()
    place.options["pipeline"] = ["version"]
    code, said = place.check()
    assert code == 1
    assert [line.split(": ")[2] for line in said] == [
        "pipeline[0]",
        "database.url",
        "server.state_file",
    ]


# -- as another user ------------------------------------------------------------------------------


@pytest.fixture
def shared() -> Iterator[Place]:
    """Give a place which others may enter, and in which root alone may write."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    try:
        yield Place(folder)
    finally:
        shutil.rmtree(folder)


def test_as_the_user_who_will_run_it(shared: Place) -> None:
    python = interpreter()
    path = shared.write()

    def check(*options: str) -> list[str]:
        command = [python, "-c", "from imgservice.cli import main; main()", "check"]
        done = subprocess.run(
            [*command, "-c", str(path), *options],
            env=environment(), cwd="/", capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert "Traceback" not in done.stderr
        return done.stderr.splitlines()

    as_nobody = check("--uid", "nobody")
    who = f"the directory {shared.folder} cannot be written by the user nobody"
    assert [line.split(": ", 3)[2:] for line in as_nobody] == [
        ["database.url", who],
        ["server.state_file", who],
    ]
    (shared.folder / "db").mkdir()
    (shared.folder / "db" / "images.db").touch()
    shutil.chown(shared.folder / "db", "nobody")
    shutil.chown(shared.folder, "nobody")
    [line] = check("--uid", "nobody")
    assert "db/images.db cannot be written by the user nobody" in line
    shutil.chown(shared.folder / "db" / "images.db", "nobody")
    [line] = check("--uid", "nobody")
    assert line.endswith("are usable")
    assert (shared.folder / "images").stat().st_uid != os.geteuid()
