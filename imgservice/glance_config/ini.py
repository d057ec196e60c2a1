"""Reads files by the parser of oslo.config, and remembers the place of every assignment."""

import io
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import NoReturn

import attrs
from oslo_config.iniparser import BaseParser

from imgservice.concurrency.file_watch import Unreadable, read_text

DEFAULT = "DEFAULT"
_LONGEST_WAY = 50
_LONGEST_TEXT = 1 << 20
"""Characters of a value: references to references could double it at every step."""


class IniError(Exception):
    """A file cannot be read; the message names it, and the line."""


@attrs.frozen
class Assignment:
    """One `name = text`, as it was written, but for quotes around it."""

    file: str
    line: int
    group: str
    name: str
    text: str

    @property
    def place(self) -> str:
        return f"{self.file}:{self.line}"

    @property
    def key(self) -> tuple[str, str]:
        """Group and name, as oslo.config compares them: no case of groups, and - is _."""
        return group_key(self.group), self.name.replace("-", "_")

    def __str__(self) -> str:
        return f"{self.place}: [{self.group}] {self.name}"


def group_key(name: str) -> str:
    return DEFAULT if name.upper() == DEFAULT else name.lower()


def read_files(paths: Iterable[Path], folders: Iterable[Path]) -> list[Assignment]:
    """Read the files, then the `*.conf` of every folder; what comes later wins."""
    found = []
    for path in [*paths, *(path for folder in folders for path in _in_folder(folder))]:
        try:
            text = read_text(path)
        except Unreadable as error:
            raise IniError(str(error)) from None
        found += parse(text, str(path))
    return found


def _in_folder(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise IniError(f"{folder}: not a directory")
    return sorted(path for path in folder.glob("*.conf") if not path.name.startswith("."))


def parse(text: str, file: str) -> list[Assignment]:
    """Take the text apart. `IniError` for what oslo.config refuses, too."""
    parser = _Parser(file)
    parser.parse(chain(io.StringIO(text, newline=None), [""]))
    return parser.found


class _Parser(BaseParser):
    """Collects the assignments of a file."""

    def __init__(self, file: str) -> None:
        self.found: list[Assignment] = []
        self._file = file
        self._group = ""

    def new_section(self, section: str) -> None:
        self._group = section

    def assignment(self, key: str, value: list[str]) -> None:
        """Called at the line behind the value, which has as many lines as its list has items."""
        begin = self.lineno - len(value)
        if not self._group:
            raise self._error(begin, "comes before any [section]")
        self.found.append(Assignment(self._file, begin, self._group, key, "\n".join(value)))

    def error_invalid_assignment(self, line: str) -> NoReturn:
        raise self._error(self.lineno, "is neither a section nor `name = value`")

    def error_empty_key(self, line: str) -> NoReturn:
        raise self._error(self.lineno, "has no name before the = or :")

    def error_unexpected_continuation(self, line: str) -> NoReturn:
        raise self._error(self.lineno, "is indented, but continues no value")

    def error_no_section_end_bracket(self, line: str) -> NoReturn:
        raise self._error(self.lineno, "must be written as [name]")

    error_no_section_name = error_no_section_end_bracket

    def _error(self, number: int, reason: str) -> IniError:
        return IniError(f"{self._file}:{number}: the line {reason}")


class Unresolved(ValueError):
    """A value refers to something that is not there."""


class Given:
    """All assignments; remembers which of them were asked for."""

    def __init__(self, assignments: Sequence[Assignment]) -> None:
        self._all = assignments
        self._files = list(dict.fromkeys(one.file for one in assignments))
        self._asked: set[Assignment] = set()
        self._expanded: dict[Assignment, str] = {}
        self.overridden: list[tuple[Assignment, Assignment]] = []
        """Assignments without effect, each with the one that overrides it."""

    def find(self, *names: str) -> Assignment | None:
        """Return the assignment in effect of `group/name`, or of its older names, if given."""
        found = self._effective([_key(name) for name in names])
        if found is not None:
            others = [one for one in self._named(names) if one not in {found, *self._asked}]
            self.overridden += [(one, found) for one in others]
            self._asked.update([found, *others])
        return found

    def text(self, name: str) -> str | None:
        """Return the text of an option without marking it as converted; None if it is not given."""
        found = self._effective([_key(name)])
        return None if found is None else found.text

    def find_all(self, name: str) -> list[Assignment]:
        """Return every value of an option that may have several."""
        found = list(self._named([name]))
        self._asked.update(found)
        return found

    def groups(self) -> set[str]:
        return {one.key[0] for one in self._all}

    def rest(self) -> Iterator[Assignment]:
        """Iterate over those that were not asked for."""
        for one in self._all:
            if one not in self._asked:
                yield one

    def expand(self, one: Assignment) -> str:
        """Return the text with its references replaced."""
        return self._expand(one.text, one.key[0], (one.key,))

    def _named(self, names: Sequence[str]) -> Iterator[Assignment]:
        keys = [_key(name) for name in names]
        return (one for one in self._all if one.key in keys)

    def _effective(self, keys: Sequence[tuple[str, str]]) -> Assignment | None:
        """Return the assignment that counts: in the last file, of the first name, the last one."""
        for file in reversed(self._files):
            for key in keys:
                found = [one for one in self._all if one.file == file and one.key == key]
                if found:
                    return found[-1]
        return None

    def _expand(self, text: str, group: str, outer: tuple[tuple[str, str], ...]) -> str:
        def put_in(matched: re.Match[str]) -> str:
            name = matched["bare"] or matched["braced"]
            return "$" if name is None else self._value(name, group, outer)

        return _REFERENCE.sub(put_in, text.replace(r"\$", "$$"))

    def _value(self, name: str, group: str, outer: tuple[tuple[str, str], ...]) -> str:
        first, _, second = name.partition(".")
        keys = [(group_key(first), second)] if second else [(group, name)]
        found = self._effective(keys) or self._effective([(DEFAULT, name)])
        if found is None:
            raise Unresolved(
                f"refers to ${name}, which is not set in these files (a dollar sign itself is"
                " written $$)"
            )
        if found.key in outer:
            raise Unresolved(f"refers to ${name}, which refers back to it")
        if found not in self._expanded:
            if len(outer) > _LONGEST_WAY:
                raise Unresolved(f"refers to others more than {_LONGEST_WAY} deep")
            text = self._expand(found.text, found.key[0], (*outer, found.key))
            if len(text) > _LONGEST_TEXT:
                raise Unresolved(
                    f"refers to ${name}, which is longer than {_LONGEST_TEXT} characters"
                )
            self._expanded[found] = text
        return self._expanded[found]


_NAME = r"(?ai:[_a-z][._a-z0-9]*)"
_REFERENCE = re.compile(rf"\$(?:\$|(?P<bare>{_NAME})|\{{(?P<braced>{_NAME})\}})")


def _key(name: str) -> tuple[str, str]:
    group, _, option = name.partition("/")
    return group_key(group), option
