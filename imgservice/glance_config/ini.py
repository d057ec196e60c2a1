"""Reads files as oslo.config does, and remembers where everything stood."""

import io
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import attrs

DEFAULT = "DEFAULT"
_LONGEST_WAY = 50
_LONGEST_TEXT = 1 << 20
"""Values that refer to others twice double with every step."""


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
        """What it is looked up by: Glance does not mind the case of groups, nor - for _."""
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
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
            raise IniError(f"{path}: cannot be read: {reason}") from None
        found += parse(text, str(path))
    return found


def _in_folder(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise IniError(f"{folder}: not a directory")
    return sorted(path for path in folder.glob("*.conf") if not path.name.startswith("."))


def parse(text: str, file: str) -> list[Assignment]:
    """Take the text apart. `IniError` for what oslo.config refuses, too."""
    parsing = _Parsing(file)
    for number, line in enumerate(io.StringIO(text, newline=None), 1):
        parsing.take(number, line.rstrip())
    parsing.end_value()
    return parsing.found


class _Parsing:
    """How far we are in a file."""

    def __init__(self, file: str) -> None:
        self.found: list[Assignment] = []
        self._file = file
        self._group = ""
        self._open: tuple[int, str, list[str]] | None = None
        """The assignment that the next line may go on with."""

    def take(self, number: int, line: str) -> None:
        if line.startswith((" ", "\t")):
            if self._open is None:
                raise self._error(number, "is indented, and there is nothing that it goes on with")
            self._open[2].append(line.lstrip())
            return
        self.end_value()
        if line.startswith("["):
            self._group = self._section(number, line)
        elif line and not line.startswith(("#", ";")):
            self._open = self._begin(number, line)

    def end_value(self) -> None:
        if self._open is not None:
            line, name, parts = self._open
            self.found.append(Assignment(self._file, line, self._group, name, "\n".join(parts)))
            self._open = None

    def _section(self, number: int, line: str) -> str:
        if not line.endswith("]") or len(line) < 3:
            raise self._error(number, "a section is written as [name]")
        return line[1:-1]

    def _begin(self, number: int, line: str) -> tuple[int, str, list[str]]:
        matched = re.match(r"([^=:]*)[=:](.*)", line, re.DOTALL)
        if matched is None:
            raise self._error(number, "is neither a section nor `name = value`")
        name, value = matched[1].strip(), matched[2].strip()
        if not name:
            raise self._error(number, "has no name before the = or :")
        if not self._group:
            raise self._error(number, "comes before any [section]")
        if value and value[0] == value[-1] and value[0] in "\"'":
            value = value[1:-1]
        return number, name, [value]

    def _error(self, number: int, reason: str) -> IniError:
        return IniError(f"{self._file}:{number}: the line {reason}")


class Unresolved(ValueError):
    """A value refers to something that is not there."""


class Given:
    """All assignments; remembers which of them somebody has asked for."""

    def __init__(self, assignments: Sequence[Assignment]) -> None:
        self._all = assignments
        self._files = list(dict.fromkeys(one.file for one in assignments))
        self._asked: set[Assignment] = set()
        self._expanded: dict[Assignment, str] = {}
        self.overridden: list[tuple[Assignment, Assignment]] = []
        """What had no effect, each with what it was overridden by."""

    def find(self, *names: str) -> Assignment | None:
        """Return what holds of `group/name`, which may be followed by its older names."""
        found = self._effective([_key(name) for name in names])
        if found is not None:
            others = [one for one in self._named(names) if one not in {found, *self._asked}]
            self.overridden += [(one, found) for one in others]
            self._asked.update([found, *others])
        return found

    def text(self, name: str) -> str | None:
        """Return what was written, for who does not convert it; None when it is not given."""
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
        """Iterate over what nobody has asked for."""
        for one in self._all:
            if one not in self._asked:
                yield one

    def expand(self, one: Assignment) -> str:
        """Return the text with what it refers to put in."""
        return self._expand(one.text, one.key[0], (one.key,))

    def _named(self, names: Sequence[str]) -> Iterator[Assignment]:
        keys = [_key(name) for name in names]
        return (one for one in self._all if one.key in keys)

    def _effective(self, keys: Sequence[tuple[str, str]]) -> Assignment | None:
        """The last file that has any of the names counts, there the first name, of it the last."""
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
