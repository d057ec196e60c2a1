"""Writes the sample configuration file from the declarations of the options."""

import textwrap
from collections.abc import Iterator

import attrs

from imgservice.config.describe import Field, bounds, choices, is_section, written
from imgservice.config.sections import Config
from imgservice.config.sections.stores import StoreEntry
from imgservice.domain.options import declaration, key

HEAD = """\
# Every option with its default. All of them are optional: a configuration is easiest to read when
# it has only what differs from the defaults. Durations are in seconds. Sizes may have a unit, as in
# 10GiB. Relative paths start at the working directory. `imgservice check` shows the values in use.
"""
WIDTH = 100


def sample() -> str:
    """Return the sample file."""
    return HEAD + "\n".join(_section(Config(), 0)) + "\n"


def _section(section: attrs.AttrsInstance, depth: int) -> Iterator[str]:
    for field in attrs.fields(type(section)):
        if depth == 0:
            yield ""
        yield from _comment(field, depth)
        yield from _entry(key(field), getattr(section, field.name), field.type, depth)


def _entry(name: str, value: object, type_: object, depth: int) -> Iterator[str]:
    indent = "  " * depth
    if isinstance(value, StoreEntry):
        yield f"{indent}{name}:"
        yield f"{indent}  type: {value.type}"
        yield from _section(value.options, depth + 1)
    elif isinstance(value, dict) and value:
        yield f"{indent}{name}:"
        for inner, one in value.items():
            yield from _entry(inner, one, type(one), depth + 1)
    elif is_section(value):
        yield f"{indent}{name}:"
        yield from _section(value, depth + 1)
    else:
        yield f"{indent}{name}: {written(value, type_)}"


def _comment(field: Field, depth: int) -> Iterator[str]:
    indent = "  " * depth
    for line in textwrap.wrap(_described(field), WIDTH - len(indent) - 2):
        yield f"{indent}# {line}"


def _described(field: Field) -> str:
    """Return what the option does, and the limits and choices that this does not mention."""
    doc, found = declaration(field).doc, choices(field.type)
    rule = bounds(field)
    if not all(one in doc for one in found):
        rule = f"one of {', '.join(found)}"
    return f"{doc} {rule[0].upper()}{rule[1:]}." if rule else doc
