"""README.md and docs/ tell the truth: commands run, files are read, output is what is printed."""

import re

import pytest

from tests.documentation.blocks import LANGUAGES, REPOSITORY, WORDS, Block, blocks, pages, tokens
from tests.documentation.matching import missing_key, missing_line
from tests.documentation.readers import read
from tests.documentation.running import Scene, run
from tests.documentation.surroundings import SURROUNDINGS

ALL = [block for page in pages() for block in blocks(page)]
EVERY_BLOCK = pytest.mark.parametrize("block", ALL, ids=lambda block: block.place)


@pytest.mark.parametrize("page", pages())
def test_examples_are_fenced(page: str) -> None:
    assert [token.map for token in tokens(page) if token.type == "code_block"] == []


@EVERY_BLOCK
def test_a_block_is_tried_or_says_why_not(block: Block) -> None:
    assert block.language in LANGUAGES, "no language that a test can try"
    assert block.words.keys() <= WORDS
    if "not-run" in block.words:
        assert len(block.words["not-run"].split()) > 1, "a reason is more than a word"
        named = re.findall(r"tests/\S+\.py", block.words["not-run"])
        assert all((REPOSITORY / one).exists() for one in named), "no such test"
    elif block.language == "text":
        assert "output" in block.words, "what is this, and why is it not tried?"
    elif block.language == "ini":
        assert block.file, "the name of the file is missing in the first line"


@pytest.mark.parametrize("page", sorted({block.page for block in ALL}))
def test_a_page_does_what_it_says(page: str, request: pytest.FixtureRequest) -> None:
    scene = Scene(request.getfixturevalue("tmp_path"))
    SURROUNDINGS.get(page, lambda _scene, _request: None)(scene, request)
    found = list(blocks(page))
    if any(_is_run(block) for block in found):
        run(scene, found)
    for number, block in enumerate(found):
        if "output" not in block.words:
            path = scene.directory / f"{number}.read"
            path.write_text(scene.text(block.text))
            read(block, path)
    _compare(scene, found)


def _is_run(block: Block) -> bool:
    return block.language == "sh" and not {"not-run", "output"} & block.words.keys()


def _compare(scene: Scene, found: list[Block]) -> None:
    printed = ""
    for number, block in enumerate(found):
        if _is_run(block):
            printed = (scene.directory / "steps" / f"{number}.out").read_text()
        elif "output" in block.words and "not-run" not in block.words:
            differs = missing_key if block.language == "json" else missing_line
            missing = differs(scene.text(block.text), printed)
            assert missing is None, f"{block.place}: {missing}\nnot in:\n{printed}"
