"""Building blocks of JSON schemas."""

from collections.abc import Mapping, Sequence
from typing import TypeAlias

Schema: TypeAlias = Mapping[str, object]
Fields: TypeAlias = Mapping[str, Schema]

UUID = "^([0-9a-fA-F]){8}-([0-9a-fA-F]){4}-([0-9a-fA-F]){4}-([0-9a-fA-F]){4}-([0-9a-fA-F]){12}$"
TEXT: Schema = {"type": "string"}
READ_ONLY_TEXT: Schema = {"readOnly": True, "type": "string"}
FIRST: Schema = {"rel": "first", "href": "{first}"}
NEXT: Schema = {"rel": "next", "href": "{next}"}
DESCRIBED_BY: Schema = {"rel": "describedby", "href": "{schema}"}


def described(type_: str | Sequence[str], description: str, **more: object) -> Schema:
    """Describe a field."""
    return {"type": type_, **more, "description": description}


def nullable(description: str, longest: int | None = None, **more: object) -> Schema:
    """Describe a text that may be absent, and how many characters it has at most."""
    size = {} if longest is None else {"maxLength": longest}
    return {**described(["null", "string"], description, **more), **size}


def read_only(type_: str | Sequence[str], description: str, **more: object) -> Schema:
    """Describe a field that clients cannot set."""
    return described(type_, description, readOnly=True, **more)


def pages(name: str, held: Schema, definitions: Schema | None = None) -> Schema:
    """Describe a list that comes in pages."""
    return {
        "name": name,
        "properties": {name: held, "first": TEXT, "next": TEXT, "schema": TEXT},
        **({"definitions": definitions} if definitions else {}),
        "links": [FIRST, NEXT, DESCRIBED_BY],
    }


def whole_list(name: str, item: Schema) -> Schema:
    """Describe a list that has no pages."""
    return {
        "name": name,
        "properties": {name: {"type": "array", "items": item}, "schema": TEXT},
        "links": [DESCRIBED_BY],
    }
