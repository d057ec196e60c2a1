"""The JSON schemas that clients fetch, and the checks compiled from them."""

import re
from collections.abc import Sequence
from typing import Any

import fastjsonschema

from imgservice.domain.errors import Invalid
from imgservice.web.app import ApiApp
from imgservice.web.respond import Answer, json_answer
from imgservice.web.streaming import StreamingRequest

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


class ImageSchemas:
    """The documents, made once, and the check of an image compiled from them."""

    def __init__(self, disk: Sequence[str], container: Sequence[str]) -> None:
        properties = image_properties(disk, container)
        self.read_only = frozenset(
            name for name, field in properties.items() if field.get("readOnly")
        )
        self.image = {
            "name": "image",
            "properties": properties,
            "additionalProperties": {"type": "string"},
            "links": [
                {"rel": "self", "href": "{self}"},
                {"rel": "enclosure", "href": "{file}"},
                {"rel": "describedby", "href": "{schema}"},
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
            "links": [
                {"rel": "first", "href": "{first}"},
                {"rel": "next", "href": "{next}"},
                {"rel": "describedby", "href": "{schema}"},
            ],
        }
        self._check = fastjsonschema.compile({"type": "object", **self.image}, use_default=False)

    def check(self, document: Any) -> None:
        """Raise `Invalid`, naming the field and what it should be."""
        try:
            self._check(document)
        except fastjsonschema.JsonSchemaValueException as error:
            reason = re.sub(r"^data\.?", "", error.message)
            raise Invalid(f"Provided object does not match schema 'image': {reason}") from None


def routes(app: ApiApp, schemas: ImageSchemas) -> None:
    @app.route("/schemas/image", methods=["GET"])
    async def image_schema(request: StreamingRequest) -> Answer:
        return json_answer(200, schemas.image)

    @app.route("/schemas/images", methods=["GET"])
    async def images_schema(request: StreamingRequest) -> Answer:
        return json_answer(200, schemas.images)
