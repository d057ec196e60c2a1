"""The password of the database, with whatever characters: no output has a piece of it."""

import json
import string
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from click.testing import CliRunner, Result

from imgservice.cli import main
from imgservice.config.errors import ConfigError
from imgservice.wiring.examination import prepare
from imgservice.wiring.greeting import summary
from imgservice.wiring.load import Files
from tests.process.test_start import Attempt
from tests.real.service import IMGSERVICE, TWISTD, free_port

PIECE = "qzx"
FORMS = (
    "postgresql://user:{}@{}/db",
    "postgresql+psycopg://user:{}@{}/db?sslmode=disable",
    "mysql://user:{}@{}/db",
    "mariadb://:{}@{}/db",
    "postgresql://{1}/db?user=user&password={0}",
    "postgresql://us/er:{}@{}/db",
    "mysql://user:{}@{}/db?charset=utf8mb4&unknown=1",
)
DB_COMMANDS = ("check", "version", "sync", "stats", "purge", "index list")


PARTS = "@/:?#&=%[ "
"""What has a meaning in URLs."""


def passwords(marks: str) -> Iterator[str]:
    for mark in marks:
        password = f"{PIECE}{mark}{PIECE}{mark}{PIECE}"
        yield password
        yield quote(password, safe="")
    yield f"{PIECE}@{PIECE}/{PIECE}:{PIECE}?{PIECE}#{PIECE}&{PIECE}=x"


@pytest.fixture(scope="module")
def nobody_there() -> str:
    return f"127.0.0.1:{free_port()}"


def configured(folder: Path, url: str) -> Path:
    path = folder / "c.yaml"
    path.write_text(json.dumps({"database": {"url": url}}, ensure_ascii=False))
    return path


def said(result: Result) -> str:
    assert result.exit_code != 0
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.output


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    monkeypatch.chdir(tmp_path)
    return lambda *words: said(CliRunner().invoke(main, [*words, "--config", "c.yaml"]))


def test_check_does_not_say_it(tmp_path: Path, nobody_there: str, run: Callable[..., str]) -> None:
    for form in FORMS:
        for password in passwords("@/&"):
            configured(tmp_path, form.format(password, nobody_there))
            output = run("check")
            assert PIECE not in output, (form, password, output)
            assert "c.yaml:1: database.url: " in output


def test_no_command_of_the_database_says_it(
    tmp_path: Path, nobody_there: str, run: Callable[..., str]
) -> None:
    for form in FORMS:
        configured(tmp_path, form.format(f"{PIECE}@{PIECE}", nobody_there))
        for command in DB_COMMANDS:
            assert PIECE not in run("db", *command.split())


def test_no_start_says_it(
    tmp_path: Path, nobody_there: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = Path("c.yaml")
    for form in FORMS:
        for password in passwords(PARTS if form != FORMS[0] else string.punctuation + " \tä"):
            configured(tmp_path, form.format(password, nobody_there))
            setup = Files(path).read(1)
            assert PIECE not in summary(setup)
            with pytest.raises(ConfigError) as caught:
                prepare(path, setup.config)
            assert PIECE not in str(caught.value), (form, password)
            assert str(caught.value).startswith("c.yaml:1: database.url: ")


@pytest.mark.parametrize(
    "command",
    [[IMGSERVICE, "run", "-c", "c.yaml"],
     [TWISTD, "--nodaemon", "--pidfile=", "imgservice", "-c", "c.yaml"]],
    ids=["run", "twistd"],
)  # fmt: skip
def test_a_start_that_fails_says_and_logs_nothing_of_it(
    tmp_path: Path, command: list[str | Path], nobody_there: str
) -> None:
    attempt = Attempt(tmp_path, "")
    configured(tmp_path, FORMS[0].format(f"{PIECE}@{PIECE}", nobody_there))
    done = attempt.run(*command)
    assert done.returncode == 1
    assert "an @ that is not escaped" in done.stderr
    assert PIECE not in done.stdout + done.stderr


@pytest.mark.parametrize(
    "text",
    [
        "database: postgresql://user:qzx@h/db",
        "database: user=u password=qzx",
        "database: {url: !qzx x}",
        "database: {url: *qzx}",
        "database: {url: &qzx}",
        "database: {url: &qzx a, b: &qzx c}",
        "database: {url: [postgresql://user:qzx@h/db]}",
        "database: {url: {value: qzx}}",
        "database: {url:qzx}",
        "auth: {keystone: {password:qzx}}",
        "auth: {keystone: {password: [qzx]}}",
        "auth: {keystone: password=qzx}",
        "auth: {mode: 'https://user:qzx@keystone'}",
    ],
)
def test_no_mistake_in_the_file_says_it(tmp_path: Path, text: str, run: Callable[..., str]) -> None:
    (tmp_path / "c.yaml").write_text(text)
    output = run("check")
    assert PIECE not in output
    assert "c.yaml:1: " in output
