"""The operator's file that protects custom properties of images."""

import re
from collections.abc import Callable, Iterator
from configparser import (
    ConfigParser,
    Error,
    InterpolationError,
    MissingSectionHeaderError,
    ParsingError,
)
from pathlib import Path

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
from imgservice.watched import Unreadable, Watched, read_text

EVERYBODY, NOBODY = "@", "!"
ReadPermission = Callable[[str], Permission]
"""Makes a permission of the text that stands for it in the file; `ValueError` tells a mistake."""


def watched_protections(path: Path, read_permission: ReadPermission) -> Watched[Protected]:
    """Read the file, and again whenever it changes; `Unreadable` names the line at fault."""
    return Watched(lambda: [path], lambda: read_protections(path, read_permission))


def read_protections(path: Path, read_permission: ReadPermission) -> Protected:
    return Protected(list(_File(path, read_text(path)).sections(read_permission)))


# -- permissions ----------------------------------------------------------------------------------


def roles_permission(text: str) -> Permission:
    """Read `admin, billing`: any of these roles; `@` is everybody, `!` and nothing are nobody."""
    names = [name.strip() for name in text.split(",")]
    if EVERYBODY in names and NOBODY in names:
        raise ValueError(f"{EVERYBODY} (everybody) and {NOBODY} (nobody) contradict each other")
    if NOBODY in names:
        return nobody
    return everybody if EVERYBODY in names else having_one_of(filter(None, names))


def policies_permission(find_rule: Callable[[str], Permission]) -> ReadPermission:
    """Return what reads the name of one rule of the policy; `@`, `!` and nothing as with roles.

    `find_rule` returns the rule of a name; `ValueError` when there is none.
    """

    def read(text: str) -> Permission:
        if "," in text:
            raise ValueError(
                f"expected one rule of the policy, got {text!r}; rules are joined there"
            )
        if text in ("", EVERYBODY, NOBODY):
            return everybody if text == EVERYBODY else nobody
        return as_ruled(find_rule(text))

    return read


# -- the file -------------------------------------------------------------------------------------


class _File:
    """Sections whose names are patterns, each with `create`, `read`, `update` and `delete`."""

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
        for name in self._parser.sections():
            if not name.startswith(RESERVED_PREFIX):  # none of the operator's affairs
                pattern = self._pattern(name)
                permissions = {
                    deed: self._permission(name, deed, read_permission) for deed in DEEDS
                }
                yield Section(pattern, permissions)

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
        """Return the line of the section or, if it is there and not inherited, of its key."""
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
