"""Reads policy files: the check of each rule, and where it is written."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import attrs
import yaml

from imgservice.concurrency.file_watch import Unreadable, read_text
from imgservice.yaml_text import compose, line_of

Text = str | Sequence[str | Sequence[str]]
"""The policy language, or its older form: a list of alternatives, each a list of requirements."""


@attrs.frozen
class Written:
    """What a file says about a rule."""

    text: Text
    place: str
    """File and line."""


@attrs.frozen
class Sources:
    """The files to read rules from: later ones override earlier ones."""

    file: Path | None = None
    folders: Sequence[Path] = ()

    def __bool__(self) -> bool:
        return self.file is not None or bool(self.folders)

    def watched(self) -> Sequence[Path]:
        """Return the paths that change when a rule does; folders too, since files come and go."""
        return [*([self.file] if self.file else []), *self.folders, *self._in_folders()]

    def read(self) -> tuple[Mapping[str, Written], Sequence[str]]:
        """Return the rules and warnings; `Unreadable` when a file cannot be used."""
        rules: dict[str, Written] = {}
        warnings: list[str] = []
        for path in [*([self.file] if self.file else []), *self._files()]:
            for name, written in _read(path):
                earlier = rules.get(name)
                if earlier is not None and earlier.place.startswith(f"{path}:"):
                    warnings.append(
                        f"{written.place}: {name} is set twice, first at {earlier.place}"
                    )
                rules[name] = written
        return rules, warnings

    def _files(self) -> Iterator[Path]:
        for folder in self.folders:
            try:
                yield from _files_in(folder)
            except OSError as error:
                raise Unreadable(f"{folder}: cannot be read: {error.strerror}") from None

    def _in_folders(self) -> Sequence[Path]:
        """Return also what may become a file, such as a link to one that does not exist yet."""
        try:
            return [path for folder in self.folders for path in _visible_in(folder)]
        except OSError:
            return ()  # reported when the files are read


def _files_in(folder: Path) -> Sequence[Path]:
    """Return the files in the order of their names, without hidden ones and subfolders."""
    return [path for path in _visible_in(folder) if path.is_file()]


def _visible_in(folder: Path) -> Sequence[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _read(path: Path) -> Iterator[tuple[str, Written]]:
    text = read_text(path)
    try:
        root = compose(text, yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        place = f"{path}:{line_of(error)}"
        raise Unreadable(f"{place}: not valid YAML or JSON: {error.problem}") from None
    except yaml.YAMLError as error:
        raise Unreadable(f"{path}: not valid YAML or JSON: {error}") from None
    if root is None or _value(root) is None:
        return
    if not isinstance(root, yaml.MappingNode):
        raise Unreadable(f"{path}:{root.start_mark.line + 1}: expected names of rules with checks")
    for key, value in root.value:
        place = f"{path}:{key.start_mark.line + 1}"
        name = _value(key)
        yield str(name), Written(_checked(_value(value), f"{place}: {name}"), place)


def _value(node: yaml.Node) -> object:
    loader = yaml.SafeLoader("")
    try:
        value: object = loader.construct_document(node)
        return value
    finally:
        loader.dispose()


def _checked(value: object, place: str) -> Text:
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(_is_alternative(one) for one in value):
        return value
    if value is None:
        raise Unreadable(f'{place} has no check; write "" to allow everybody, "!" to allow nobody')
    raise Unreadable(f"{place}: expected a check in quotes, got {value!r}")


def _is_alternative(value: object) -> bool:
    if isinstance(value, list):
        return all(isinstance(each, str) for each in value)
    return isinstance(value, str)
