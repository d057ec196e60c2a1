"""The document that says which test shows which rule."""

import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
DOCUMENT = TESTS.parent / "docs/explanation/sharing-a-database.md"


def rows() -> list[str]:
    return re.findall(r"^\| (\d+\. .*) \|$", DOCUMENT.read_text(), re.MULTILINE)


def test_there_is_a_row_for_each_rule() -> None:
    assert [int(row.partition(".")[0]) for row in rows()] == list(range(1, 21))


def test_every_rule_has_tests_that_exist() -> None:
    for row in rows():
        named = re.findall(r"`([\w/]+\.py)::(test_\w+)`", row)
        assert named, row
        for file, name in named:
            text = (TESTS / file).read_text()
            assert re.search(rf"^(?:async )?def {name}\(", text, re.MULTILINE), f"{file}::{name}"


def test_every_test_of_the_rules_is_in_the_document() -> None:
    text = (TESTS / "sharing/test_rules.py").read_text()
    missing = [
        name
        for name in re.findall(r"^def (test_\w+)\(", text, re.MULTILINE)
        if f"::{name}`" not in DOCUMENT.read_text()
    ]
    assert missing == []
