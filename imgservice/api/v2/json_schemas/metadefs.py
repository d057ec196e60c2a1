"""The JSON schemas of metadata definitions."""

from collections.abc import Mapping, Sequence

from imgservice.api.v2.json_schemas.fields import READ_ONLY_TEXT, TEXT, Schema, pages

_JSON_TYPES = ["array", "boolean", "integer", "number", "object", "string", None]
_NAME = {"type": "string", "maxLength": 80}
_TYPE = {"type": "string", "enum": _JSON_TYPES}
_STRINGS = {"$ref": "#/definitions/stringArray"}
_COUNT = {"$ref": "#/definitions/positiveInteger"}
_COUNT_OR_0 = {"$ref": "#/definitions/positiveIntegerDefault0"}
_PROPERTIES = {"$ref": "#/definitions/property"}


def _text(description: str, longest: int) -> Schema:
    return {"type": "string", "description": description, "maxLength": longest}


def _times(of: str, created: str | None = None) -> Schema:
    return {
        name: {
            "type": "string",
            "readOnly": True,
            "description": f"Date and time of {what}",
            "format": "date-time",
        }
        for name, what in (
            ("created_at", created or f"{of} creation"),
            ("updated_at", f"the last {of} modification"),
        )
    }


def _objects(**properties: Schema) -> Schema:
    return {"type": "array", "items": {"type": "object", "properties": properties}}


_PROPERTY = {
    "name": _NAME,
    "title": TEXT,
    "description": TEXT,
    "operators": {"type": "array", "items": TEXT},
    "type": _TYPE,
    "required": _STRINGS,
    "minimum": {"type": "number"},
    "maximum": {"type": "number"},
    "maxLength": _COUNT,
    "minLength": _COUNT_OR_0,
    "pattern": {"type": "string", "format": "regex"},
    "enum": {"type": "array"},
    "readonly": {"type": "boolean"},
    "default": {},
    "items": {"type": "object", "properties": {"type": _TYPE, "enum": {"type": "array"}}},
    "maxItems": _COUNT,
    "minItems": _COUNT_OR_0,
    "uniqueItems": {"type": "boolean", "default": False},
    "additionalItems": {"type": "boolean"},
}
_NUMBERS = {
    "positiveInteger": {"type": "integer", "minimum": 0},
    "positiveIntegerDefault0": {"allOf": [_COUNT, {"default": 0}]},
}
_PROPERTY_DEFINITIONS = {
    **_NUMBERS,
    "stringArray": {"type": "array", "items": TEXT, "minItems": 1, "uniqueItems": True},
}
_DEFINITIONS = {
    **_NUMBERS,
    "stringArray": {"type": "array", "items": TEXT, "uniqueItems": True},
    "property": {
        "type": "object",
        "additionalProperties": {
            "type": "object",
            "required": ["title", "type"],
            "properties": _PROPERTY,
        },
    },
}


def _single(
    name: str, properties: Schema, required: Sequence[str], definitions: Schema | None = None
) -> Schema:
    return {
        "name": name,
        "properties": properties,
        "additionalProperties": False,
        **({"definitions": definitions} if definitions else {}),
        "required": list(required),
    }


def _collection(name: str, item: Schema, definitions: Schema | None = None) -> Schema:
    """Describe pages of items; what these define moves to the top, where `$ref` looks for it."""
    bare = {key: part for key, part in item.items() if key != "definitions"}
    return pages(name, {"type": "array", "items": bare}, definitions)


NAMESPACE = _single(
    "namespace",
    {
        "namespace": _text("The unique namespace text.", 80),
        "display_name": _text(
            "The user friendly name for the namespace. Used by UI if available.", 80
        ),
        "description": _text("Provides a user friendly description of the namespace.", 500),
        "visibility": {
            "type": "string",
            "description": "Scope of namespace accessibility.",
            "enum": ["public", "private"],
        },
        "protected": {
            "type": "boolean",
            "description": "If true, namespace will not be deletable.",
        },
        "owner": _text("Owner of the namespace.", 255),
        **_times("namespace"),
        "schema": READ_ONLY_TEXT,
        "self": READ_ONLY_TEXT,
        "resource_type_associations": _objects(name=TEXT, prefix=TEXT, properties_target=TEXT),
        "properties": _PROPERTIES,
        "objects": _objects(name=TEXT, description=TEXT, required=_STRINGS, properties=_PROPERTIES),
        "tags": _objects(name=TEXT),
    },
    ["namespace"],
    _DEFINITIONS,
)
RESOURCE_TYPE = _single(
    "resource_type_association",
    {
        "name": _text(
            "Resource type names should be aligned with Heat resource types whenever possible:"
            " https://docs.openstack.org/heat/latest/template_guide/openstack.html",
            80,
        ),
        "prefix": _text(
            "Specifies the prefix to use for the given resource type. Any properties in the"
            " namespace should be prefixed with this prefix when being applied to the specified"
            " resource type. Must include prefix separator (e.g. a colon :).",
            80,
        ),
        "properties_target": _text(
            "Some resource types allow more than one key / value pair per instance.  For example,"
            " Cinder allows user and image metadata on volumes. Only the image properties metadata"
            " is evaluated by Nova (scheduling or drivers). This property allows a namespace"
            " target to remove the ambiguity.",
            80,
        ),
        **_times("resource type association", "resource type association"),
    },
    ["name"],
)
PROPERTY = _single("property", _PROPERTY, ["type", "title", "name"], _PROPERTY_DEFINITIONS)
OBJECT = _single(
    "object",
    {
        "name": _NAME,
        "description": TEXT,
        "required": _STRINGS,
        "properties": _PROPERTIES,
        "schema": READ_ONLY_TEXT,
        "self": READ_ONLY_TEXT,
        **_times("object"),
    },
    ["name"],
    _DEFINITIONS,
)
TAG = _single("tag", {"name": _NAME, **_times("tag")}, ["name"])


def _properties() -> Schema:
    """Describe pages of properties, which are members named by them: they need no name inside."""
    held = _single("property", _PROPERTY, ["type", "title"])
    return pages(
        "properties", {"type": "object", "additionalProperties": held}, _PROPERTY_DEFINITIONS
    )


METADEFS: Mapping[str, Schema] = {
    "metadefs/namespace": NAMESPACE,
    "metadefs/namespaces": _collection("namespaces", NAMESPACE, _DEFINITIONS),
    "metadefs/resource_type": RESOURCE_TYPE,
    "metadefs/resource_types": _collection("resource_type_associations", RESOURCE_TYPE),
    "metadefs/property": PROPERTY,
    "metadefs/properties": _properties(),
    "metadefs/object": OBJECT,
    "metadefs/objects": _collection("objects", OBJECT, _DEFINITIONS),
    "metadefs/tag": TAG,
    "metadefs/tags": _collection("tags", TAG),
}
"""By their paths under /v2/schemas."""
