"""The file in which an operator describes custom properties of images."""

from pathlib import Path

import orjson

from imgservice.api.v2.json_schemas.checks import compiled_schema
from imgservice.api.v2.json_schemas.custom import CustomProperties, types_of
from imgservice.api.v2.json_schemas.fields import Fields
from imgservice.api.v2.json_schemas.image_fields import FIELDS
from imgservice.concurrency.file_watch import Unreadable
from imgservice.domain.documents import Json, JsonObject

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


def _custom_properties(document: Json) -> CustomProperties:
    if not isinstance(document, dict):
        raise SchemaFileError("expected a JSON object")
    if "properties" not in document:
        return CustomProperties(_properties(document))
    properties = document["properties"]
    if not isinstance(properties, dict):
        raise SchemaFileError("properties: expected a JSON object")
    required = _required(document.get("required") or [])
    return CustomProperties(_properties(properties), required)


def _required(names: Json) -> tuple[str, ...]:
    if isinstance(names, list):
        texts = tuple(name for name in names if isinstance(name, str))
        if len(texts) == len(names):
            return texts
    raise SchemaFileError("required: expected a list of names")


def _properties(document: JsonObject) -> Fields:
    return {name: _property(name, schema) for name, schema in document.items()}


def _property(name: str, schema: Json) -> JsonObject:
    if not isinstance(schema, dict):
        raise SchemaFileError(f"{name}: expected a JSON object")
    if not all(isinstance(type_, str) and type_ in STORABLE for type_ in types_of(schema)):
        raise SchemaFileError(f"{name}: the type must be among {', '.join(sorted(STORABLE))}")
    if name in FIELDS:
        raise SchemaFileError(f"{name}: every image has a field of this name already")
    try:
        compiled_schema(dict(schema))
    except Exception as error:  # whatever the compiler trips over is wrong with the schema
        raise SchemaFileError(f"{name}: not a usable JSON schema: {error}") from None
    return schema
