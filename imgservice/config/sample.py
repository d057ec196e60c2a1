"""The sample configuration file, written from the classes that read it."""

import textwrap
from collections.abc import Iterator
from typing import Any

import attrs
import yaml

from imgservice.config.sections import Config
from imgservice.config.sections.stores import StoreEntry
from imgservice.domain.rates import Rate
from imgservice.domain.units import Secret, Size

HEAD = """\
# Every key of the configuration with its default. All keys are optional: a file that has only
# what differs from here is the better one. Durations are seconds; sizes may be written as 10GiB;
# relative paths start at the working directory. `imgservice check` tells what holds in the end.
"""
WIDTH = 100


def sample() -> str:
    """Return the sample file."""
    return HEAD + "\n" + "\n".join(_section(Config(), 0)) + "\n"


def _section(value: Any, depth: int) -> Iterator[str]:
    for field in attrs.fields(type(value)):
        name, current = field.name.rstrip("_"), getattr(value, field.name)
        if depth == 0 and name != "server":
            yield ""
        yield from _comment(field.metadata.get("doc", ""), depth)
        yield from _entry(name, current, depth)


def _entry(name: str, value: Any, depth: int) -> Iterator[str]:
    indent = "  " * depth
    if attrs.has(type(value)) and not isinstance(value, Secret | StoreEntry | Rate):
        yield f"{indent}{name}:"
        yield from _section(value, depth + 1)
    elif name == "stores":
        yield f"{indent}{name}:"
        for store_id, entry in value.items():
            yield f"{indent}  {store_id}:"
            yield f"{indent}    type: {entry.type}"
            yield from _section(entry.options, depth + 2)
    else:
        yield f"{indent}{name}: {_scalar(value)}"


def _scalar(value: Any) -> str:
    if isinstance(value, Secret):
        value = value.reveal()
    if isinstance(value, tuple):
        value = list(value)
    if isinstance(value, Rate):
        value = attrs.asdict(value)
    if isinstance(value, int) and value >= 1 << 20 and value % (1 << 20) == 0:
        return _size(Size(value))
    text: str = yaml.safe_dump(
        value, default_flow_style=True, width=1000, allow_unicode=True, sort_keys=False
    )
    return text.removesuffix("...\n").strip()


def _size(value: Size) -> str:
    for power, unit in ((40, "TiB"), (30, "GiB"), (20, "MiB")):
        if value % (1 << power) == 0:
            return f"{value >> power}{unit}"
    return str(value)


def _comment(text: str, depth: int) -> Iterator[str]:
    indent = "  " * depth
    for line in textwrap.wrap(text, WIDTH - len(indent) - 2):
        yield f"{indent}# {line}"
