"""The file in which an operator describes custom properties of images."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from imgservice.api.v2.schemas import CustomProperties, compiled_schema, image_properties
from imgservice.concurrency.file_watch import Unreadable

BASE = image_properties((), ()).keys()
STORABLE = frozenset(("string", "integer", "number", "boolean", "null"))


class SchemaFileError(Unreadable):
    """The file cannot be used; the message says why."""


def read_custom_properties(path: Path) -> CustomProperties:
    """Read `{name: schema, …}`, or `{"properties": {name: schema, …}, "required": […]}`."""
    try:
        document = orjson.loads(path.read_bytes())
    except OSError as error:
        raise SchemaFileError(f"{path}: cannot be read: {error.strerror}") from None
    except orjson.JSONDecodeError as error:
        raise SchemaFileError(f"{path}: not valid JSON: {error}") from None
    try:
        return _custom_properties(document)
    except SchemaFileError as error:
        raise SchemaFileError(f"{path}: {error}") from None


def _custom_properties(document: Any) -> CustomProperties:
    if not isinstance(document, dict):
        raise SchemaFileError("expected a JSON object")
    required: Any = []
    properties = document
    if "properties" in document:
        properties, required = document["properties"], document.get("required") or []
    if not isinstance(properties, dict):
        raise SchemaFileError("properties: expected a JSON object")
    if not (isinstance(required, list) and all(isinstance(name, str) for name in required)):
        raise SchemaFileError("required: expected a list of names")
    for name, schema in properties.items():
        _check_property(name, schema)
    return CustomProperties(properties, tuple(required))


def _check_property(name: str, schema: Any) -> None:
    if not isinstance(schema, dict):
        raise SchemaFileError(f"{name}: expected a JSON object")
    types = schema.get("type", "string")
    named = types if isinstance(types, list) else [types]
    if not all(isinstance(type_, str) and type_ in STORABLE for type_ in named):
        raise SchemaFileError(f"{name}: the type must be among {', '.join(sorted(STORABLE))}")
    if name in BASE:
        raise SchemaFileError(f"{name}: every image has a field of this name already")
    _check_schema(name, schema)


def _check_schema(name: str, schema: Mapping[str, Any]) -> None:
    try:
        compiled_schema(dict(schema))
    except Exception as error:  # whatever the compiler trips over is wrong with the schema
        raise SchemaFileError(f"{name}: not a usable JSON schema: {error}") from None
