"""Puts declared options into words, for the sample file and the reference page."""

import types
from collections.abc import Mapping
from typing import Literal, TypeAlias, TypeGuard, Union, get_args, get_origin

import attrs
import yaml

from imgservice.config.sections.server import Workers
from imgservice.config.sections.stores import StoreEntry
from imgservice.domain.options import declaration
from imgservice.domain.rates import ByteRate, Rate
from imgservice.domain.units import Duration, Endpoints, Secret, Size, Urls

Field: TypeAlias = "attrs.Attribute[object]"

_TYPES: Mapping[object, str] = {
    bool: "boolean",
    int: "integer",
    str: "string",
    Size: "size",
    Duration: "duration",
    Secret: "secret",
    Rate: "rate",
    ByteRate: "rate of bytes",
    Urls: "URL or list of URLs",
    Endpoints: "list of addresses",
    Workers: "integer or auto",
}


def is_section(value: object) -> TypeGuard[attrs.AttrsInstance]:
    """Tell whether the value has keys of its own."""
    return section_of(type(value)) is not None


def section_of(type_: object) -> "type[attrs.AttrsInstance] | None":
    """Return the class of the section that a value of this type is, or holds; None for others."""
    if type_ in _TYPES or type_ is StoreEntry:
        return None
    if isinstance(type_, type) and attrs.has(type_):
        return type_
    return next(filter(None, map(section_of, get_args(type_))), None)


def type_name(type_: object) -> str:
    """Return the type in the words of the reference page."""
    if type_ in _TYPES:
        return _TYPES[type_]
    origin, inner = get_origin(type_), get_args(type_)
    if origin in (Union, types.UnionType):
        return f"{type_name(inner[0])} or null"
    if origin is tuple:
        return f"list of {type_name(inner[0])}s"
    if origin is Mapping:
        return f"mapping of names to {type_name(inner[1])}s"
    return "string" if origin is Literal else "section"


def constraint(field: Field) -> str:
    """Return what a value must be, beside its type; empty if it may be any."""
    words = [bounds(field)]
    if form := declaration(field).form:
        each = "each " if get_origin(field.type) is tuple else ""
        words.append(f"{each}{form.name}")
    if found := choices(field.type):
        words.append(f"one of {', '.join(found)}")
    return " and ".join(filter(None, words))


def bounds(field: Field) -> str:
    """Return the limits of a number."""
    found = declaration(field).bounds
    return " and ".join(f"{bound.words} {written(bound.limit, field.type)}" for bound in found)


def choices(type_: object) -> tuple[str, ...]:
    """Return the words of which a value must be one; none if it may be others."""
    return get_args(type_) if get_origin(type_) is Literal else ()


def written(value: object, type_: object) -> str:
    """Write a value of this type as YAML, on one line."""
    if Size in (type_, *get_args(type_)) and isinstance(value, int):
        return _written_size(value)
    if isinstance(value, Secret):
        value = value.reveal()
    if isinstance(value, tuple):
        value = list(value)
    if isinstance(value, Rate):
        value = attrs.asdict(value)
    text: str = yaml.safe_dump(
        value, default_flow_style=True, width=1000, allow_unicode=True, sort_keys=False
    )
    return text.removesuffix("...\n").strip()


def _written_size(value: int) -> str:
    for power, unit in ((40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")):
        if value >= 1 << power and value % (1 << power) == 0:
            return f"{value >> power}{unit}"
    return str(value)
