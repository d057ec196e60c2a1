"""Reads the configuration file; every mistake in it is reported with its line and its path."""

from collections.abc import Sequence
from pathlib import Path

import yaml

from imgservice.concurrency.file_watch import Unreadable, read_text
from imgservice.config.converter import Mistakes, structure
from imgservice.config.errors import ConfigError, OptionError, dotted
from imgservice.config.sections import Config
from imgservice.yaml_text import compose, line_of


def load(path: Path | None) -> Config:
    """Read the file; None means every default. `ConfigError` lists all mistakes."""
    if path is None:
        return Config()
    try:
        text = read_text(path)
    except Unreadable as error:
        raise ConfigError(str(error)) from None
    return parse(text, str(path))


def parse(text: str, name: str) -> Config:
    """Turn YAML into a `Config`; `name` is the file's, for messages."""
    try:
        root = compose(text, _Loader)
        document = None if root is None else _Loader("").construct_document(root)
    except yaml.MarkedYAMLError as error:
        raise ConfigError(f"{name}:{line_of(error)}: not valid YAML: {_problem(error)}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{name}: not valid YAML: {error}") from None
    if document is None:
        return Config()
    try:
        return structure(document)
    except Mistakes as error:
        found = sorted((_line(root, path), dotted(path), why) for path, why in error.found)
        lines = [f"{name}:{line}: {place}: {why}" for line, place, why in found]
        raise ConfigError("\n".join(lines)) from None


def located(path: Path | None, error: ConfigError) -> str:
    """Return the error's message; that of an option with the file and the line."""
    if path is None or not isinstance(error, OptionError):
        return str(error)
    try:
        root = compose(path.read_text(encoding="utf-8"), _Loader)
    except (OSError, UnicodeError, yaml.YAMLError):  # it is gone, or only root can read it
        return str(error)
    return f"{path}:{_line(root, error.path)}: {error}"


def _problem(error: yaml.MarkedYAMLError) -> str:
    """Return what is wrong, without a value that could be a password."""
    problem = error.problem or ""
    for word, sign in (("alias", "*"), ("anchor", "&"), ("tag", "!")):
        if word in problem:
            return f"a value that begins with {sign} needs quotes"
    return problem


class _Loader(yaml.SafeLoader):
    """Refuses a key that is given twice."""

    def construct_mapping(
        self, node: yaml.MappingNode, deep: bool = False
    ) -> "dict[object, object]":
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key.value!r} is given twice", key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def _line(node: yaml.Node | None, path: Sequence[str | int]) -> int:
    """Return the line, from 1, of the deepest part of the path that is in the file."""
    line = 1
    for step in path:
        if isinstance(node, yaml.MappingNode):
            found = next((pair for pair in node.value if pair[0].value == step), None)
            if found is None:
                break
            line, node = found[0].start_mark.line + 1, found[1]
        elif isinstance(node, yaml.SequenceNode) and step in range(len(node.value)):
            node = node.value[step]
            line = node.start_mark.line + 1
        else:
            break
    return line
