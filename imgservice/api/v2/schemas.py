"""The JSON schemas that clients fetch, and the checks compiled from them."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, cast

import attrs
import fastjsonschema

from imgservice.api.v2.metadef_schemas import METADEFS
from imgservice.domain.errors import Invalid
from imgservice.domain.patterns import Pattern, compiled
from imgservice.http.request import StreamingRequest
from imgservice.http.response import Response, json_response
from imgservice.http.route import shows
from imgservice.http.routing import ApiApp

UUID = "^([0-9a-fA-F]){8}-([0-9a-fA-F]){4}-([0-9a-fA-F]){4}-([0-9a-fA-F]){4}-([0-9a-fA-F]){12}$"
STATUSES = (
    "queued",
    "saving",
    "active",
    "killed",
    "deleted",
    "uploading",
    "importing",
    "pending_delete",
    "deactivated",
)
VALIDATION_DATA = {
    "description": (
        "Values to be used to populate the corresponding image properties. If the image status is"
        " not 'queued', values must exactly match those already contained in the image properties."
    ),
    "type": "object",
    "writeOnly": True,
    "additionalProperties": False,
    "properties": {
        "checksum": {"type": "string", "minLength": 32, "maxLength": 32},
        "os_hash_algo": {"type": "string", "maxLength": 64},
        "os_hash_value": {"type": "string", "maxLength": 128},
    },
    "required": ["os_hash_algo", "os_hash_value"],
}
LOCATION = {
    "type": "object",
    "properties": {
        "url": {"type": "string", "maxLength": 255},
        "metadata": {"type": "object"},
        "validation_data": VALIDATION_DATA,
    },
    "required": ["url", "metadata"],
}


def _nullable(description: str, longest: int | None = None, **more: Any) -> dict[str, Any]:
    size = {} if longest is None else {"maxLength": longest}
    return {"type": ["null", "string"], **more, "description": description, **size}


def _read_only(type_: str | list[str], description: str, **more: Any) -> dict[str, Any]:
    return {"type": type_, "readOnly": True, "description": description, **more}


def image_properties(disk: Sequence[str], container: Sequence[str]) -> dict[str, Any]:
    """Describe the fields of an image, with the formats that the operator allows."""
    return {
        "id": {"type": "string", "description": "An identifier for the image", "pattern": UUID},
        "name": _nullable("Descriptive name for the image", 255),
        "status": _read_only("string", "Status of the image", enum=list(STATUSES)),
        "visibility": {
            "type": "string",
            "description": "Scope of image accessibility",
            "enum": ["community", "public", "private", "shared"],
        },
        "protected": {
            "type": "boolean",
            "description": "If true, image will not be deletable.",
        },
        "os_hidden": {
            "type": "boolean",
            "description": "If true, image will not appear in default image list response.",
        },
        "checksum": _nullable("md5 hash of image contents.", 32, readOnly=True),
        "os_hash_algo": _nullable("Algorithm to calculate the os_hash_value", 64, readOnly=True),
        "os_hash_value": _nullable(
            "Hexdigest of the image contents using the algorithm specified by the os_hash_algo",
            128,
            readOnly=True,
        ),
        "owner": _nullable("Owner of the image", 255),
        "size": _read_only(["null", "integer"], "Size of image file in bytes"),
        "virtual_size": _read_only(["null", "integer"], "Virtual size of image in bytes"),
        "container_format": {**_nullable("Format of the container"), "enum": [None, *container]},
        "disk_format": {**_nullable("Format of the disk"), "enum": [None, *disk]},
        "created_at": _read_only("string", "Date and time of image registration"),
        "updated_at": _read_only("string", "Date and time of the last image modification"),
        "tags": {
            "type": "array",
            "description": "List of strings related to the image",
            "items": {"type": "string", "maxLength": 255},
        },
        "direct_url": _read_only("string", "URL to access the image file kept in external store"),
        "min_ram": {
            "type": "integer",
            "description": "Amount of ram (in MB) required to boot image.",
        },
        "min_disk": {
            "type": "integer",
            "description": "Amount of disk space (in GB) required to boot image.",
        },
        "self": _read_only("string", "An image self url"),
        "file": _read_only("string", "An image file url"),
        "stores": _read_only(
            "string",
            "Store in which image data resides.  Only present when the operator has enabled"
            " multiple stores.  May be a comma-separated list of store identifiers.",
        ),
        "schema": _read_only("string", "An image schema url"),
        "locations": {
            "type": "array",
            "items": LOCATION,
            "description": "A set of URLs to access the image file kept in external store",
        },
    }


LINKS = {
    "first": {"rel": "first", "href": "{first}"},
    "next": {"rel": "next", "href": "{next}"},
    "schema": {"rel": "describedby", "href": "{schema}"},
}

MEMBER: Mapping[str, Any] = {
    "name": "member",
    "properties": {
        "member_id": {
            "type": "string",
            "description": "An identifier for the image member (tenantId)",
        },
        "image_id": {
            "type": "string",
            "description": "An identifier for the image",
            "pattern": UUID,
        },
        "created_at": {"type": "string", "description": "Date and time of image member creation"},
        "updated_at": {
            "type": "string",
            "description": "Date and time of last modification of image member",
        },
        "status": {
            "type": "string",
            "description": "The status of this image member",
            "enum": ["pending", "accepted", "rejected"],
        },
        "schema": {"readOnly": True, "type": "string"},
    },
}


def _described(type_: str | list[str], description: str, **more: Any) -> dict[str, Any]:
    return {"description": description, **more, "type": type_}


_BLOB = ["null", "object"]
TASK: Mapping[str, Any] = {
    "name": "task",
    "properties": {
        "id": _described("string", "An identifier for the task", pattern=UUID),
        "type": _described(
            "string",
            "The type of task represented by this content",
            enum=["import", "api_image_import", "location_import"],
        ),
        "status": _described(
            "string",
            "The current status of this task",
            enum=["pending", "processing", "success", "failure"],
        ),
        "input": _described(_BLOB, "The parameters required by task, JSON blob"),
        "result": _described(_BLOB, "The result of current task, JSON blob"),
        "owner": _described("string", "An identifier for the owner of this task"),
        "message": _described(
            "string",
            "Human-readable informative message only included when appropriate"
            " (usually on failure)",
        ),
        "image_id": _described("string", "Image associated with the task"),
        "request_id": _described("string", "Human-readable informative request-id"),
        "user_id": _described("string", "User associated with the task"),
        "expires_at": _described(
            ["null", "string"], "Datetime when this resource would be subject to removal"
        ),
        "created_at": _described("string", "Datetime when this resource was created"),
        "updated_at": _described("string", "Datetime when this resource was updated"),
        "self": {"readOnly": True, "type": "string"},
        "schema": {"readOnly": True, "type": "string"},
    },
}
NOT_IN_TASK_LISTS = ("input", "result", "message")


def _collection(name: str, item: Mapping[str, Any]) -> dict[str, Any]:
    """Describe a list that has no pages."""
    return {
        "name": name,
        "properties": {name: {"type": "array", "items": item}, "schema": {"type": "string"}},
        "links": [LINKS["schema"]],
    }


def _listed_task() -> dict[str, Any]:
    kept = {
        name: field for name, field in TASK["properties"].items() if name not in NOT_IN_TASK_LISTS
    }
    return {"name": "task", "properties": kept}


FIXED: Mapping[str, Mapping[str, Any]] = {
    "member": MEMBER,
    "members": _collection("members", MEMBER),
    "task": TASK,
    "tasks": _collection("tasks", _listed_task()),
    **METADEFS,
}
"""The schemas that depend on no configuration, by their paths."""


@attrs.frozen
class CustomProperties:
    """What an operator says about some of the properties that images may have beside the base."""

    properties: Mapping[str, Mapping[str, Any]] = attrs.field(factory=dict)
    required: tuple[str, ...] = ()


class ImageSchemas:
    """The documents, made once, and the checks of an image compiled from them."""

    def __init__(
        self,
        disk: Sequence[str],
        container: Sequence[str],
        custom: CustomProperties | None = None,
    ) -> None:
        base = image_properties(disk, container)
        self.custom = custom or CustomProperties()
        added = {
            name: {**field, "is_base": False} for name, field in self.custom.properties.items()
        }
        self.read_only = frozenset(name for name, field in base.items() if field.get("readOnly"))
        self.properties: Mapping[str, Any] = {**base, **added}
        self.image = {
            "name": "image",
            "properties": self.properties,
            "additionalProperties": {"type": "string"},
            **({"required": list(self.custom.required)} if self.custom.required else {}),
            "links": [
                {"rel": "self", "href": "{self}"},
                {"rel": "enclosure", "href": "{file}"},
                LINKS["schema"],
            ],
        }
        self.images = {
            "name": "images",
            "properties": {
                "images": {"type": "array", "items": self.image},
                "first": {"type": "string"},
                "next": {"type": "string"},
                "schema": {"type": "string"},
            },
            "links": list(LINKS.values()),
        }
        optional = {name: part for name, part in self.image.items() if name != "required"}
        self._check = _compiled(self.image)
        self._check_part = _compiled(optional)

    def referred(self) -> Mapping[str, Mapping[str, Any]]:
        """Return the schemas to which the OpenAPI document refers."""
        members = {name: FIXED[name] for name in ("member", "members")}
        return {"image": self.image, "images": self.images, **members}

    def check(self, document: Any) -> None:
        """Raise `Invalid`, naming the field and what it should be."""
        _checked(self._check, document)

    def check_part(self, document: Any) -> None:
        """Like `check`, for some of the fields of an image."""
        _checked(self._check_part, document)

    def check_removed(self, names: Iterable[str]) -> None:
        """Raise `Invalid` when among them is a property that every image must have."""
        for name in names:
            if name in self.custom.required:
                raise Invalid(f"Provided object does not match schema 'image': {name} is required")

    def to_json(self, name: str, text: str | None) -> Any:
        """Return the stored value of a custom property as its schema has it.

        A text that is no such value, since others may write it too, is returned as it is. What
        the schema does not name, and has no value, is an empty string.
        """
        field = self.custom.properties.get(name)
        if field is None:
            return "" if text is None else text
        return _typed(field.get("type", "string"), text)


WHOLE_NUMBERS = 1 << 63


def to_text(value: str | int | float | bool | None) -> str | None:
    """Return the value of a custom property as it is stored."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer() and abs(value) >= WHOLE_NUMBERS:
        raise Invalid("Whole numbers have at most 64 bits.")  # JSON readers lose digits of others
    return value if value is None else str(value)


def _compiled(schema: Mapping[str, Any]) -> Callable[[Any], Any]:
    return compiled_schema({"type": "object", **schema})


LONGEST_FORMATTED = 2048
"""Characters of a value that has a `format`, such as a date or a URL."""


def compiled_schema(schema: Mapping[str, Any]) -> Callable[[Any], Any]:
    """Return what checks a value; `ValueError` for a pattern whose cost nothing bounds."""
    check: Any = fastjsonschema.compile(schema, use_default=False)
    expressions = check.__globals__["REGEX_PATTERNS"]
    for name, expression in expressions.items():
        if re.fullmatch("[a-z-]+_re_pattern", name):  # of the library itself
            expressions[name] = _Format(expression)
        elif name != UUID:
            expressions[name] = _bounded(expression.pattern)
    return cast(Callable[[Any], Any], check)


def _bounded(expression: str) -> Pattern:
    try:
        return compiled(expression, short=False)
    except ValueError as error:
        raise ValueError(f"the pattern {expression} {error}") from None


@attrs.frozen
class _Format:
    """A format of the library, for values that are not too long for it."""

    _expression: re.Pattern[str]

    def match(self, text: str) -> object:
        return len(text) <= LONGEST_FORMATTED and self._expression.match(text)

    search = match


def _checked(check: Callable[[Any], Any], document: Any) -> None:
    try:
        check(document)
    except fastjsonschema.JsonSchemaValueException as error:
        reason = re.sub(r"^data\.?", "", error.message)
        raise Invalid(f"Provided object does not match schema 'image': {reason}") from None


def _integer(text: str) -> int:
    """Read a whole number, which JSON may have written as 1.0."""
    try:
        return int(text)
    except ValueError:
        value = float(text)
        if not value.is_integer():
            raise
        return int(value)


_READERS: Mapping[str, Callable[[str], Any]] = {
    "boolean": {
        "true": True,
        "false": False,
        "True": True,
        "False": False,
        "1": True,
        "0": False,
    }.__getitem__,
    "integer": _integer,
    "number": float,
}


def _typed(types: str | Sequence[str], text: str | None) -> Any:
    if text is None or "string" in types:
        return text
    for type_ in (types,) if isinstance(types, str) else types:
        with suppress(KeyError, ValueError):
            return _READERS[type_](text)
    return text


def routes(app: ApiApp, find_schemas: Callable[[], ImageSchemas]) -> None:
    _schema_route(app, "image", lambda: json_response(200, find_schemas().image))
    _schema_route(app, "images", lambda: json_response(200, find_schemas().images))
    for path, document in FIXED.items():
        _schema_route(app, path, partial(_same, json_response(200, document)))


def _same(answer: Response) -> Response:
    return answer


def _schema_route(app: ApiApp, path: str, answer: Callable[[], Response]) -> None:
    about = shows(f"Show the JSON schema {path}.")

    @app.route(f"/schemas/{path}", methods=["GET"], endpoint=f"schema_{path}", about=about)
    async def schema(request: StreamingRequest) -> Response:
        return answer()
