"""The state of a conversion."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypeVar

import attrs

from imgservice.glance_config import document
from imgservice.glance_config.document import Document, Leaf
from imgservice.glance_config.ini import Assignment, Given, Unresolved
from imgservice.glance_config.secrets import Secrets
from imgservice.glance_config.values import Read, string

T = TypeVar("T")
_DOLLAR = "refers to what is not set in these files (a dollar sign itself is written $$)"
"""Said of secrets, no part of which may be shown."""


@attrs.frozen
class Folders:
    """Where Glance looks for files given without a directory."""

    paths: Sequence[Path]

    def find(self, name: str) -> Path | None:
        for folder in self.paths:
            path = (folder / name).absolute()
            if path.exists():
                return path
        return None


class Conversion:
    """Options go from `given` to `document`; what cannot be converted is noted."""

    def __init__(self, given: Given, written: Document, secrets: Secrets, folders: Folders):
        self.given = given
        self.document = written
        self.secrets = secrets
        self.folders = folders
        self.converted: set[Assignment] = set()
        self.kept: list[Assignment] = []
        self.ignored: list[tuple[Assignment, str]] = []
        self.matters: list[str] = []
        """What is lost, and important."""
        self.notes: list[str] = []
        """Other remarks for the operator."""
        self.mistakes: list[str] = []

    # -- reading ----------------------------------------------------------------------------------

    def read(self, one: Assignment | None, read: Read[T]) -> T | None:
        """Return the value; None if there is none, or a wrong one, which is noted."""
        if one is None:
            return None
        try:
            return read(self.given.expand(one))
        except Unresolved as error:
            self.wrong(one, _DOLLAR if self.secrets.is_one(one) else str(error))
            return None
        except ValueError as error:
            self.wrong(one, str(error))
            return None

    def wrong(self, one: Assignment, reason: str) -> None:
        self.mistakes.append(f"{one}: {reason}")

    # -- writing ----------------------------------------------------------------------------------

    def put(
        self, path: document.Path, value: object, source: Assignment | None, remark: str = ""
    ) -> None:
        """Set a key, unless it is set already. An assignment may set several keys."""
        if self.document.get(path) is None:
            self.document.put(path, Leaf(value, source, remark))
        if source is not None:
            self.converted.add(source)

    def option(self, path: document.Path, read: Read[T], *names: str) -> T | None:
        """Convert an option that has a key of its own here; ignore an empty one."""
        one = self.given.find(*names)
        if one is not None and not one.text and read is string:
            self.ignore(one, "is empty")
            return None
        value = self.read(one, read)
        if value is not None:
            self.put(path, value, one)
        return value

    def secret(self, path: document.Path, *names: str) -> bool:
        """Convert a password or the like; tell whether there was one."""
        one = self.given.find(*names)
        text = self.read(one, str)
        if one is None or not text:
            return False
        self.put(path, self.secrets.take(one, text), one)
        return True

    def keep(
        self, section: str, some: Iterable[Assignment], reason: str, matters: bool = False
    ) -> None:
        """Write assignments as comments, with the reason why they are not converted."""
        for one in some:
            self.kept.append(one)
            self.quote(section, f"{reason[:1].upper()}{reason[1:]}:", one)
            if matters:
                self.matters.append(f"{one}: {reason}")

    def quote(self, section: str, text: str, one: Assignment, more: str = "") -> None:
        shown = one.text
        if self.secrets.is_one(one):
            taken = self.secrets.take(one, one.text)
            shown = taken if isinstance(taken, str) else document.flow(taken)
        line = f"[{one.group}] {one.name} = {shown}  ({more}{one.place})"
        self.document.quote(section, text, line)

    def ignore(self, one: Assignment, reason: str) -> None:
        self.ignored.append((one, reason))

    def note(self, section: str, text: str) -> None:
        """Tell the operator, and write it into the file."""
        self.document.say(section, text)
        self.notes.append(text)

    def lose(self, section: str, text: str) -> None:
        """Tell what our file cannot do, and Glance's did."""
        self.document.say(section, text)
        self.matters.append(text)
