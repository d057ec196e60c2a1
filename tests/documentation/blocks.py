"""The fenced blocks of README.md and docs/, and what a test has to do with each of them.

The info string behind a fence, of which readers see only the colours, begins with the language:

    sh          commands; a page's are run in order, in one shell and in an empty directory
    yaml, ini, json, python, toml, sql    read as what they are

A block whose first line is a comment with a file's name becomes that file. Further words:

    serve               the last command is a service: wait until it accepts connections, and keep
                        it until the end of the page, or until the next such block
    exit=N              the exit code of the last command
    output              what the commands before it print, see `matching.py`
    wrong               a file with a mistake, which its reader must find
    not-run="REASON"    nothing of the above; what reads such a file reads it all the same
"""

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

import attrs
from markdown_it import MarkdownIt
from markdown_it.token import Token

REPOSITORY = Path(__file__).parents[2]
LANGUAGES = frozenset({"sh", "yaml", "ini", "json", "python", "toml", "sql", "text"})
WORDS = frozenset({"serve", "exit", "output", "wrong", "not-run"})
_FILE = re.compile(r"(?:#|--|//) (/\S+|\S+\.\w+)$")


@attrs.frozen
class Block:
    page: str
    line: int
    language: str
    words: Mapping[str, str]
    text: str

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def file(self) -> str | None:
        """Return the file that this is, if its first line says so."""
        found = _FILE.match(self.text.partition("\n")[0])
        return found[1] if found and self.language != "sh" else None


def pages() -> Sequence[str]:
    """Return README.md, CONTRIBUTING.md and all of docs/, relative to the repository."""
    found = [REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md"]
    found += sorted((REPOSITORY / "docs").rglob("*.md"))
    return [str(path.relative_to(REPOSITORY)) for path in found]


@cache
def tokens(page: str) -> Sequence[Token]:
    """Return the page as the parser of CommonMark sees it, tables included."""
    return MarkdownIt().enable("table").parse((REPOSITORY / page).read_text())


def blocks(page: str) -> Iterator[Block]:
    """Yield the fenced blocks of a page; ValueError for an info string that is not understood."""
    for token in tokens(page):
        if token.type != "fence":
            continue
        assert token.map is not None
        line = token.map[0] + 1
        language, *words = shlex.split(token.info) or [""]
        pairs = (word.partition("=") for word in words)
        yield Block(page, line, language, {key: value for key, _, value in pairs}, token.content)
