"""The files that say who has which project and roles."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imgservice.auth.users_file import read_users
from imgservice.concurrency.file_watch import Unreadable
from imgservice.domain.context import Context
from tests.examples import SHARING, examples

quick = settings(
    database=None,
    deadline=None,
    max_examples=examples(300),
    suppress_health_check=SHARING,
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "users.yaml"


def complaint(file: Path, text: str | bytes) -> str:
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(Unreadable) as caught:
        read_users(file)
    return str(caught.value).removeprefix(str(file))


def test_people(file: Path) -> None:
    file.write_text(
        "# staff\n"
        "alice: {project: apollo, roles: [Member, CI]}\n"
        "bob:\n  user: Robert\n  project: gemini\n  roles:\n  - admin\n"
        "ghost: {project: nowhere, roles: []}\n"
    )
    assert read_users(file) == {
        "alice": Context("alice", "apollo", frozenset({"member", "reader", "ci"})),
        "bob": Context("Robert", "gemini", frozenset({"admin", "manager", "member", "reader"})),
        "ghost": Context("ghost", "nowhere", frozenset()),
    }


@pytest.mark.parametrize("name", ["007", "yes", "null", "1.0", "2026-01-01", "~", "Zoë"])
def test_every_name_is_a_string(file: Path, name: str) -> None:
    file.write_text(f"{name}: {{project: {name}, roles: [{name}]}}\n")
    assert read_users(file) == {name: Context(name, name, frozenset({name.lower()}))}


@pytest.mark.parametrize("text", ["", "\n", "# nobody\n", "{}"])
def test_nobody(file: Path, text: str) -> None:
    file.write_text(text)
    assert read_users(file) == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", ":1: expected keys and values"),
        ("alice", ":1: expected keys and values"),
        ("\nalice: apollo", ":2: expected keys and values"),
        ("alice: {}", ":1: 'alice' has no project"),
        ("alice: {project: p}", ":1: 'alice' has no roles"),
        ("\nalice: {project: p, roles: member}", ":2: expected a list"),
        ("alice: {project: [p], roles: []}", ":1: expected a string"),
        ("alice: {project: p, roles: [[a]]}", ":1: expected a string"),
        ("alice: {project: '', roles: []}", ":1: the project '' is empty"),
        ("alice: {project: p, roles: ['']}", ":1: the role '' is empty"),
        ('alice: {project: "a\\0", roles: []}', ":1: the project 'a\\x00' is empty, too long or"),
        (f"alice: {{project: {'p' * 256}, roles: []}}", ":1: the project 'ppp"),
        ("alice: {project: p, roles: ['a,b']}", ":1: 'a,b' is not one role"),
        (
            "alice:\n  project: p\n  rolls: []",
            ":3: unknown key 'rolls' (known: user, project, roles)",
        ),
        ("alice: {project: p, project: q, roles: []}", ":1: the key 'project' is there twice"),
        ("a: {project: p, roles: []}\na: {project: q, roles: [admin]}", ":2: 'a' is there twice"),
        ("a: {project: p, roles: [],,}", ":1: not valid YAML"),
        ("? [a]\n: {project: p, roles: []}", ":1: expected a string"),
        (b"\xff\xfe\xff", ": cannot be read: not UTF-8 text"),
        ("a: {project: p\x01, roles: []}", ":1: not valid YAML"),
        ("a: b\n---\nc: d", ":2: not valid YAML"),
    ],
)
def test_mistakes_are_told_with_their_line(file: Path, text: str | bytes, message: str) -> None:
    assert complaint(file, text).startswith(message)


def test_no_such_file(file: Path) -> None:
    with pytest.raises(Unreadable, match="cannot be read: No such file"):
        read_users(file)


@quick
@given(
    st.text() | st.lists(st.sampled_from(list("a:{}[],-\n 'project:roles\"&*!|>%@")), max_size=30)
)
def test_any_text(file: Path, text: str | list[str]) -> None:
    file.write_text("".join(text), newline="")
    try:
        read_users(file)
    except Unreadable as error:
        assert str(error).startswith(str(file))
