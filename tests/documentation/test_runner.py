"""A page that does not do what it says is noticed."""

from pathlib import Path

import pytest

from tests.documentation.blocks import Block
from tests.documentation.matching import missing_key, missing_line
from tests.documentation.readers import read
from tests.documentation.running import Scene, run


def _block(text: str, language: str = "sh", **words: str) -> Block:
    return Block("page.md", 7, language, words, text)


@pytest.mark.parametrize(
    ("shown", "printed", "missing"),
    [
        ("a\nb\n", "a\nx\nb\n", None),
        ("a\nb\n", "b\na\n", "b"),
        ("since 2026-01-02 03:04:05 UTC, 7 done", "since 2031-11-12 13:14:15 UTC, 2 done", None),
        ("17 requests", "17 answers", "17 requests"),
        ("a … c\n…\nd", "a b c\nx\ny\nd", None),
        ("id 830c782b", "id 12345678", None),
        ("401", "four", "401"),
    ],
)  # fmt: skip
def test_output_is_compared(shown: str, printed: str, missing: str | None) -> None:
    assert missing_line(shown, printed) == missing


@pytest.mark.parametrize(
    ("shown", "printed", "missing"),
    [
        ('{"a": 1}', '{"a": 2, "b": 3}', None),
        ('{"a": {"b": 1}}', '{"a": {}}', "/a/b is not there"),
        ('{"a": 1}', '{"a": "1"}', "/a is '1'"),
        ('{"a": [1]}', '{"a": []}', "/a is empty"),
    ],
)
def test_documents_are_compared(shown: str, printed: str, missing: str | None) -> None:
    assert missing_key(shown, printed) == missing


@pytest.mark.parametrize(
    "block",
    [
        _block("true\nfalse\ntrue\n"),
        _block("true\n", exit="1"),
        _block("echo Traceback\n"),
        _block("exit 0\n", serve=""),
    ],
)
def test_a_page_fails(tmp_path: Path, block: Block) -> None:
    with pytest.raises(AssertionError):
        run(Scene(tmp_path), [block])


def test_commands_share_a_shell_and_files_are_where_they_belong(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    file = _block("# /etc/imgservice/x.yaml\na: 1\n", "yaml")
    commands = [_block("X=/etc/imgservice/x.yaml\n"), _block('grep -q "a: 1" "$X"\n')]
    run(scene, [file, *commands, _block("false\n", **{"not-run": "for a reason"})])
    assert (scene.root("/etc/imgservice") / "x.yaml").exists()


@pytest.mark.parametrize(
    "block",
    [
        _block("server: {listn: []}\n", "yaml"),
        _block("# users.yaml\nalice: {}\n", "yaml"),
        _block("{\n", "json"),
        _block("if\n", "sh"),
        _block("server: {}\n", "yaml", wrong=""),
    ],
)
def test_a_file_with_a_mistake_is_found(tmp_path: Path, block: Block) -> None:
    path = tmp_path / "file"
    path.write_text(block.text)
    with pytest.raises((Exception, pytest.fail.Exception)):
        read(block, path)
