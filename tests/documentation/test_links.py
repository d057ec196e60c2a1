"""Links between the pages lead somewhere, the index leads to every page, and named files exist."""

import re
from collections.abc import Iterator, Set
from pathlib import Path

import pytest
from markdown_it.token import Token

from tests.documentation.blocks import REPOSITORY, pages, tokens

INDEX = "docs/README.md"
CHANGES = sorted(str(path.relative_to(REPOSITORY)) for path in REPOSITORY.glob("news/*.md"))


FOR_CONTRIBUTORS = [
    page
    for page in pages()
    if page.startswith(("CONTRIBUTING", "docs/explanation/", "docs/how-to/add-a-"))
]
"""Pages about the code."""
_PATH = re.compile(r"[\w-]+(/[\w-]+)*(/|/[\w-]+\.[a-z]+(::\w+)?)")
ROOTS = ("", "imgservice", "tests")
"""Folders where the paths in these pages begin."""
_EXAMPLE = "vault"
"""What the files of examples have in their names, which do not exist."""


def _links(page: str) -> Iterator[str]:
    for token in tokens(page):
        for child in token.children or ():
            if child.type == "link_open":
                yield str(child.attrs["href"])


def _anchors(page: str) -> Set[str]:
    """Return the anchors that GitHub gives the headings."""
    found = tokens(page)
    titles = (found[n + 1] for n, token in enumerate(found) if token.type == "heading_open")
    return {_slug(_text(title)) for title in titles}


def _text(title: Token) -> str:
    return "".join(child.content for child in title.children or ())


def _slug(title: str) -> str:
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def _broken(page: str, folder: Path) -> Iterator[str]:
    for link in _links(page):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (folder / path).resolve() if path else REPOSITORY / page
        if not target.exists() or not target.is_relative_to(REPOSITORY):
            yield f"{link}: there is no such file"
        elif anchor and anchor not in _anchors(str(target.relative_to(REPOSITORY))):
            yield f"{link}: there is no such heading"


@pytest.mark.parametrize("page", pages())
def test_links_lead_to_files_and_headings(page: str) -> None:
    assert list(_broken(page, (REPOSITORY / page).parent)) == []


@pytest.mark.parametrize("change", CHANGES)
def test_links_of_changes_are_those_of_the_changelog(change: str) -> None:
    """Fragments become the changelog, which is in the folder above them."""
    assert list(_broken(change, REPOSITORY)) == []


def test_the_index_has_every_page() -> None:
    listed = {((REPOSITORY / INDEX).parent / link).resolve() for link in _links(INDEX)}
    there = {path.resolve() for path in (REPOSITORY / "docs").rglob("*.md")}
    assert there - listed == {REPOSITORY / INDEX}


def test_the_readme_leads_to_the_index() -> None:
    assert INDEX in set(_links("README.md"))


def _paths(page: str) -> Iterator[str]:
    """Yield what a page has in backticks and looks like a path with a slash in it."""
    for token in tokens(page):
        for child in token.children or ():
            if child.type == "code_inline" and _PATH.fullmatch(child.content):
                yield child.content


def _exists(path: str) -> bool:
    """Tell whether there is such a file, and such a test in it if the path names one."""
    name, _, test = path.partition("::")
    found = [file for root in ROOTS if (file := REPOSITORY / root / name).exists()]
    return any(not test or f"def {test}(" in file.read_text() for file in found)


@pytest.mark.parametrize("page", FOR_CONTRIBUTORS)
def test_the_files_that_a_page_names_exist(page: str) -> None:
    assert [path for path in _paths(page) if not _exists(path) and _EXAMPLE not in path] == []
