"""Reads the operator's file that protects custom properties of images."""

import re
from collections.abc import Callable, Iterable, Iterator
from configparser import (
    ConfigParser,
    Error,
    InterpolationError,
    MissingSectionHeaderError,
    ParsingError,
)
from pathlib import Path

from imgservice.concurrency.file_watch import Unreadable, read_text
from imgservice.domain.names import RESERVED_PREFIX
from imgservice.domain.patterns import Pattern, compiled
from imgservice.domain.protections import (
    DEEDS,
    Deed,
    Permission,
    Protected,
    Section,
    as_ruled,
    everybody,
    having_one_of,
    nobody,
)
from imgservice.domain.roles import KnownRoles

EVERYBODY, NOBODY = "@", "!"
ReadPermission = Callable[[str], Permission]
"""Reads a permission from its text in the file; `ValueError` describes a mistake."""
FindWarnings = Callable[[str], Iterable[str]]
"""Finds what may be a mistake in such a text, although it can be read."""


def read_protections(
    path: Path,
    read_permission: ReadPermission,
    find_warnings: FindWarnings = lambda text: (),
    warn: Callable[[str], None] = lambda warning: None,
) -> Protected:
    """Read the file; `Unreadable` and the warnings name the line."""
    file = _File(path, read_text(path))
    sections = list(file.sections(read_permission))
    for warning in file.warnings(find_warnings):
        warn(warning)
    return Protected(sections)


# -- permissions ----------------------------------------------------------------------------------


def role_warnings(known: KnownRoles) -> FindWarnings:
    """Return a function that finds roles that nobody has."""

    def find(text: str) -> Iterator[str]:
        for name in _names(text):
            if name not in (EVERYBODY, NOBODY) and (warning := known.warning(name)) is not None:
                yield warning

    return find


def _names(text: str) -> list[str]:
    return [name for part in text.split(",") if (name := part.strip())]


def roles_permission(text: str) -> Permission:
    """Read roles, such as `admin, billing`; `@` is everybody, `!` or nothing is nobody."""
    names = _names(text)
    if EVERYBODY in names and NOBODY in names:
        raise ValueError(f"{EVERYBODY} (everybody) and {NOBODY} (nobody) contradict each other")
    if NOBODY in names:
        return nobody
    return everybody if EVERYBODY in names else having_one_of(names)


def policies_permission(find_rule: Callable[[str], Permission]) -> ReadPermission:
    """Return a function that reads the name of a policy rule; `@`, `!` and nothing as for roles.

    `find_rule` returns the permission of a rule; `ValueError` when there is no such rule.
    """

    def read(text: str) -> Permission:
        if "," in text:
            raise ValueError(
                f"expected one rule of the policy, got {text!r}; combine rules in the policy file"
            )
        if text in ("", EVERYBODY, NOBODY):
            return everybody if text == EVERYBODY else nobody
        return as_ruled(find_rule(text))

    return read


# -- the file -------------------------------------------------------------------------------------


class _File:
    """A file whose sections are patterns, each with `create`, `read`, `update` and `delete`."""

    def __init__(self, path: Path, text: str) -> None:
        self._path = path
        self._lines = text.splitlines()
        self._parser = ConfigParser()
        try:
            self._parser.read_string(text, str(path))
        except MissingSectionHeaderError as error:
            raise self._mistake(error.lineno, "expected a section, [PATTERN]") from None
        except ParsingError as error:
            line, what = error.errors[0]
            raise self._mistake(line, f"neither a section nor a key with a value: {what}") from None
        except Error as error:
            raise self._mistake(getattr(error, "lineno", 1), _sentence(error)) from None

    def sections(self, read_permission: ReadPermission) -> Iterator[Section]:
        for name in self._names():
            pattern = self._pattern(name)
            permissions = {deed: self._permission(name, deed, read_permission) for deed in DEEDS}
            yield Section(pattern, permissions)

    def warnings(self, find: FindWarnings) -> Iterator[str]:
        """Yield what may be a mistake, with its line, after the sections have been read."""
        for name in self._names():
            for deed in DEEDS:
                for warning in find(self._parser.get(name, deed)):
                    yield f"{self._path}:{self._line(name, deed)}: [{name}] {deed}: {warning}"

    def _names(self) -> Iterator[str]:
        for name in self._parser.sections():
            if not name.startswith(RESERVED_PREFIX):  # for the service's own use
                yield name

    def _pattern(self, section: str) -> Pattern:
        try:
            return compiled(section, short=True)
        except ValueError as error:
            message = f"[{section}] {error}"
            raise self._mistake(self._line(section), message) from None

    def _permission(self, section: str, deed: Deed, read_permission: ReadPermission) -> Permission:
        if not self._parser.has_option(section, deed):
            message = f"[{section}] does not say who may {deed}"
            raise self._mistake(self._line(section), message)
        try:
            return read_permission(self._parser.get(section, deed))
        except (ValueError, InterpolationError) as error:
            message = f"[{section}] {deed}: {_sentence(error)}"
            raise self._mistake(self._line(section, deed), message) from None

    def _line(self, section: str, key: str | None = None) -> int:
        """Return the line of the section, or of its key unless that is inherited."""
        found = current = 0
        for number, line in enumerate(self._lines, 1):
            text = line.strip()
            if text.startswith("["):
                current = number if text.startswith(f"[{section}]") else 0
                found = found or current
            elif key and current and re.match(rf"{key}\s*[=:]", text, re.IGNORECASE):
                return number
        return found

    def _mistake(self, line: int, message: str) -> Unreadable:
        return Unreadable(f"{self._path}:{line}: {message}")


def _sentence(error: Exception) -> str:
    return str(error).replace("\n", " ")
