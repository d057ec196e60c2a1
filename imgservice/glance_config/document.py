"""Writes our configuration file, with comments, and knows the source of every value."""

import textwrap
from collections.abc import Iterator, Mapping

import attrs
import yaml

from imgservice.config.sections import Config
from imgservice.domain.options import key
from imgservice.glance_config.ini import Assignment

WIDTH = 100
Path = str | tuple[str, ...]
"""A key: `section.key`, or its steps one by one where a step has dots."""
SECTIONS = tuple(key(field) for field in attrs.fields(Config))


@attrs.define
class Leaf:
    """A value, and the assignment it was converted from, if any."""

    value: object
    source: Assignment | None = None
    remark: str = ""


Node = Leaf | dict[str, "Node"]


class Document:
    """Takes keys in any order; writes them in the order of our sections."""

    def __init__(self, head: str) -> None:
        self._head = head
        self._tree: dict[str, Node] = {}
        self._comments: dict[str, dict[str, list[str]]] = {}
        self._sources: dict[int, Assignment] = {}

    def put(self, path: Path, leaf: Leaf) -> None:
        *outer, last = _steps(path)
        node = self._tree
        for step in outer:
            inner = node.setdefault(step, {})
            assert isinstance(inner, dict)  # noqa: S101  no key has both a value and keys
            node = inner
        node[last] = leaf

    def get(self, path: Path) -> object:
        """Return the value at the path, or None; of a mapping, the names in it."""
        node: Node = self._tree
        for step in _steps(path):
            if not isinstance(node, dict) or step not in node:
                return None
            node = node[step]
        return node.value if isinstance(node, Leaf) else list(node)

    def names(self, path: Path) -> list[str]:
        """Return the list of strings at the path, or the names in a mapping; else an empty list."""
        found = self.get(path)
        return list(map(str, found)) if isinstance(found, list) else []

    def say(self, section: str, text: str) -> None:
        """Add a comment at the end of the section; one that is there already is not repeated."""
        self._comments.setdefault(section, {}).setdefault(text, [])

    def quote(self, section: str, text: str, line: str) -> None:
        """Add a line, which is not folded, under the comment."""
        self.say(section, text)
        self._comments[section][text].append(line)

    def write(self) -> str:
        """Return the file."""
        lines = [f"# {line}" for line in textwrap.wrap(printable(self._head), WIDTH - 2)]
        for section in SECTIONS:
            if section in self._tree or section in self._comments:
                lines.append("")
            if section in self._tree:
                for text, leaf in _entry(section, self._tree[section], ""):
                    lines.append(text)
                    if leaf is not None and leaf.source is not None:
                        self._sources[len(lines)] = leaf.source
            for said, quoted in self._comments.get(section, {}).items():
                lines += [f"# {line}" for line in textwrap.wrap(printable(said), WIDTH - 2)]
                lines += [f"#   {printable(line)}" for line in quoted]
        return "\n".join(lines) + "\n"

    def source(self, line: int) -> Assignment | None:
        """Return the source of a line that was written."""
        return self._sources.get(line)


def _steps(path: Path) -> tuple[str, ...]:
    return path if isinstance(path, tuple) else tuple(path.split("."))


def _entry(name: str, node: Node, indent: str) -> Iterator[tuple[str, Leaf | None]]:
    if isinstance(node, Leaf):
        for line in textwrap.wrap(printable(node.remark), WIDTH - 2 - len(indent)):
            yield f"{indent}# {line}", None
        yield f"{indent}{flow(name)}: {flow(node.value)}", node
    else:
        yield f"{indent}{flow(name)}:", None
        for key, inner in node.items():
            yield from _entry(key, inner, indent + "  ")


def flow(value: object) -> str:
    """Write a value on one line."""
    text = _dump(value, None)
    return text if "\n" not in text else _dump(value, '"')


def _dump(value: object, style: str | None) -> str:
    text: str = yaml.safe_dump(
        dict(value) if isinstance(value, Mapping) else value,
        default_flow_style=True,
        default_style=style,
        width=float("inf"),
        allow_unicode=style is None,
        sort_keys=False,
    )
    return text.strip().removesuffix("...").strip()


def printable(text: str) -> str:
    """Escape what must not be in a comment."""
    return text if text.isprintable() else _dump(text, '"')
