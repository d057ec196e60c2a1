"""The file of static tokens: reading it, changing it, and who is who by it."""

import json
import re
import stat
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st

from imgservice.auth.tokens import PREFIX, Tokens, create, read_owners, read_tokens, revoke
from imgservice.cli import main
from imgservice.concurrency.file_watch import Unreadable
from imgservice.domain.context import Context
from tests.examples import SHARING, examples
from tests.real.commands import run_command
from tests.real.service import IMGSERVICE


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "tokens"


def owner(file: Path, token: str, now: float = 0.0) -> Context | None:
    return Tokens(lambda: read_owners(file), lambda: now).owner(token.encode())


def test_a_token_is_who_it_was_made_for(file: Path) -> None:
    _, one = create(file, "ci", "apollo", ["Member"])
    _, other = create(file, "ops", "gemini", ["admin"])
    assert owner(file, one) == Context("ci", "apollo", frozenset({"member", "reader"}))
    assert owner(file, other) == Context(
        "ops", "gemini", frozenset({"admin", "manager", "member", "reader"})
    )
    for wrong in ("", one[:-1], one + "=", one.upper(), one.removeprefix(PREFIX), f" {one}"):
        assert owner(file, wrong) is None


def test_the_file_does_not_tell_the_token(file: Path) -> None:
    token, text = create(file, "ci", "apollo", ["member"], description="nightly")
    assert re.fullmatch(r"imgsvc-[\w-]{43}", text)
    assert text not in file.read_text() and text.removeprefix(PREFIX) not in file.read_text()
    assert read_tokens(file) == [token]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_expiry(file: Path) -> None:
    token, text = create(file, "ci", "apollo", ["member"], lifetime=3600)
    end = token.expires_at()
    assert owner(file, text, end - 1) is not None
    assert owner(file, text, end) is None
    assert not token.has_expired(end - 1) and token.has_expired(end)


def test_revoking(file: Path) -> None:
    kept, kept_text = create(file, "ci", "apollo", ["member"])
    gone, gone_text = create(file, "ci", "apollo", ["member"])
    assert revoke(file, gone.id) and not revoke(file, gone.id)
    assert read_tokens(file) == [kept]
    assert owner(file, kept_text) and owner(file, gone_text) is None


def test_what_others_wrote_into_the_file_stays(file: Path) -> None:
    line = {
        "id": "hand-made",
        "sha256": "0" * 64,
        "user": "u\u2028",
        "project": "p",
        "roles": [],
        "created": "",
        "expires": "2031-01-31T12:00:00Z",
    }
    line["user"] = "u"
    text = f"# ours, do not touch\n\n{json.dumps(line, ensure_ascii=False)}"
    file.write_text(text)
    file.chmod(0o640)
    token, _ = create(file, "ci", "apollo", ["member"])
    assert file.read_text().startswith(text + "\n{")
    assert revoke(file, token.id)
    assert file.read_text() == text + "\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o640


def test_a_link_stays_a_link(file: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    create(elsewhere, "ci", "apollo", ["member"])
    file.symlink_to(elsewhere)
    create(file, "ci", "apollo", ["member"])
    assert file.is_symlink() and len(read_tokens(elsewhere)) == 2


MAKE_MANY = """
import sys
from pathlib import Path
from imgservice.auth.tokens import create
for number in range(10):
    print(sys.argv[2], create(Path(sys.argv[1]), "ci", sys.argv[2], ["member"])[1])
"""


def test_many_at_once(file: Path) -> None:
    def ten(project: str) -> str:
        command = [sys.executable, "-c", MAKE_MANY, str(file), project]
        return subprocess.run(command, capture_output=True, text=True, timeout=120).stdout

    with ThreadPoolExecutor(4) as pool:
        made = [line.split() for text in pool.map(ten, "abcd") for line in text.splitlines()]
    assert len(made) == 40
    for project, text in made:
        found = owner(file, text)
        assert found is not None and found.project == project
    assert list(file.parent.iterdir()) == [file]


GOOD = {
    "id": "a",
    "sha256": "ab" * 32,
    "user": "u",
    "project": "p",
    "roles": ["member"],
    "created": "2026-01-01T00:00:00Z",
}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"id": 1}, "expected strings"),
        ({"roles": "member"}, "expected strings, and a list of strings"),
        ({"roles": [1]}, "expected strings, and a list of strings"),
        ({"roles": ["a,b"]}, "'a,b' is not one role"),
        ({"project": ""}, "the project '' is empty"),
        ({"user": None}, "expected strings"),
        ({"sha256": "AB" * 32}, "sha256 is not 64 lower-case"),
        ({"sha256": "ab"}, "sha256 is not 64 lower-case"),
        ({"expires": "tomorrow"}, "Invalid isoformat string: 'tomorrow'"),
        ({"expires": "2031-01-01T00:00:00"}, "'2031-01-01T00:00:00' has no time zone"),
        ({"expires": 5}, "expected strings"),
        ({"expiers": "2031-01-01T00:00:00Z"}, "unknown key 'expiers'"),
        ({"description": "a\nb"}, "the description is not printable"),
    ],
)
def test_mistakes_are_told_with_their_line(
    file: Path, changes: Mapping[str, Any], message: str
) -> None:
    file.write_text(f"# one\n{json.dumps({**GOOD, **changes})}\n")
    with pytest.raises(Unreadable) as caught:
        read_owners(file)
    assert str(caught.value).startswith(f"{file}:2: {message}")


@pytest.mark.parametrize("name", list(GOOD))
def test_what_is_missing_is_told(file: Path, name: str) -> None:
    file.write_text(json.dumps({key: value for key, value in GOOD.items() if key != name}))
    with pytest.raises(Unreadable, match=f"1: there is no {name}"):
        read_owners(file)


@pytest.mark.parametrize("same", ["id", "sha256"])
def test_twice(file: Path, same: str) -> None:
    other = {**GOOD, "id": "b", "sha256": "cd" * 32, same: GOOD[same]}
    file.write_text(f"{json.dumps(GOOD)}\n{json.dumps(other)}")
    with pytest.raises(Unreadable, match=r"2: the token '.' is there twice"):
        read_owners(file)


def test_a_broken_file_is_not_changed(file: Path) -> None:
    file.write_text("{broken\n")
    with pytest.raises(Unreadable, match="1: not valid JSON"):
        create(file, "ci", "apollo", ["member"])
    assert file.read_text() == "{broken\n" and list(file.parent.iterdir()) == [file]


def test_nothing_is_made_of_nothing(file: Path) -> None:
    with pytest.raises(Unreadable, match="cannot be read"):
        revoke(file, "a")
    with pytest.raises(Unreadable, match="cannot be written"):
        create(file / "below", "ci", "apollo", ["member"])
    with pytest.raises(ValueError, match="the project ' ' is empty"):
        create(file, "ci", " ", ["member"])
    assert not file.exists()


@settings(
    database=None,
    deadline=None,
    max_examples=examples(300),
    suppress_health_check=SHARING,
)
@given(
    st.binary()
    | st.dictionaries(
        st.sampled_from([*GOOD, "expires", "x"]),
        st.none()
        | st.text()
        | st.integers()
        | st.lists(st.text() | st.integers())
        | st.datetimes(),
    ).map(
        lambda changes: json.dumps({**GOOD, **changes}, default=lambda one: one.isoformat() + "Z")
    )
)
def test_any_file(file: Path, content: bytes | str) -> None:
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    try:
        read_owners(file)
    except Unreadable as error:
        assert str(error).startswith(str(file))


# -- the command ----------------------------------------------------------------------------------


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["token", *map(str, arguments)], prog_name="imgservice")


def test_program(file: Path) -> None:
    """The token is all that goes to standard output, so that a script can take it from there."""
    done = run_command(IMGSERVICE, "token", "create", "-f", file, "-p", "apollo", "-r", "member")
    assert owner(file, done.stdout.removesuffix("\n")) is not None
    assert "expires: never" in done.stderr


def test_command(file: Path, tmp_path: Path) -> None:
    config = tmp_path / "x.yaml"
    config.write_text(f"auth: {{mode: tokens, tokens: {{file: {file}}}}}")
    made = run("create", "-c", config, "-p", "apollo", "-r", "member", "--expires", "30d")
    text = made.stdout.strip()
    assert owner(file, text) == Context("apollo", "apollo", frozenset({"member", "reader"}))
    [token] = read_tokens(file)
    assert token.id in made.stderr and token.expires and token.expires in made.stderr
    listed = run("list", "-f", file).stdout
    assert token.id in listed and "apollo" in listed and text[8:] not in listed
    assert token.sha256 not in listed
    assert run("revoke", "-c", config, token.id).exit_code == 0
    assert read_tokens(file) == []
    again = run("revoke", "-c", config, token.id)
    assert again.exit_code == 1 and f"there is no token {token.id}" in again.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["create", "-p", "p", "-r", "r"], "specify --file FILE, or --config FILE"),
        (["create", "-f", "F", "-r", "r"], "Missing option '--project'"),
        (["create", "-f", "F", "-p", "p"], "Missing option '--role'"),
        (["create", "-f", "F", "-p", "p", "-r", "r", "--expires", "0d"], "as in 30d"),
        (["create", "-f", "F", "-p", "p", "-r", "r", "--expires", "5"], "as in 30d"),
        (["list", "-f", "F"], "F: cannot be read"),
        (["list", "-c", "F"], "F: cannot be read"),
    ],
)
def test_mistakes_at_the_terminal(tmp_path: Path, arguments: list[str], message: str) -> None:
    within = [text.replace("F", str(tmp_path / "F")) for text in arguments]
    done = run(*within)
    assert done.exit_code in (1, 2) and message in done.stderr
    assert list(tmp_path.iterdir()) == []
