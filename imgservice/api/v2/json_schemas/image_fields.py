"""The fields of an image, and of the documents that hold images."""

from collections.abc import Mapping, Sequence

from imgservice.api.v2.json_schemas.fields import (
    DESCRIBED_BY,
    UUID,
    Fields,
    Schema,
    described,
    nullable,
    pages,
    read_only,
)

_STATUSES = [
    "queued",
    "saving",
    "active",
    "killed",
    "deleted",
    "uploading",
    "importing",
    "pending_delete",
    "deactivated",
]
_VALIDATION_DATA: Schema = {
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
_LOCATION: Schema = {
    "type": "object",
    "properties": {
        "url": {"type": "string", "maxLength": 255},
        "metadata": {"type": "object"},
        "validation_data": _VALIDATION_DATA,
    },
    "required": ["url", "metadata"],
}
FIELDS: Mapping[str, Schema] = {
    "id": described("string", "An identifier for the image", pattern=UUID),
    "name": nullable("Descriptive name for the image", 255),
    "status": read_only("string", "Status of the image", enum=_STATUSES),
    "visibility": described(
        "string",
        "Scope of image accessibility",
        enum=["community", "public", "private", "shared"],
    ),
    "protected": described("boolean", "If true, image will not be deletable."),
    "os_hidden": described(
        "boolean", "If true, image will not appear in default image list response."
    ),
    "checksum": nullable("md5 hash of image contents.", 32, readOnly=True),
    "os_hash_algo": nullable("Algorithm to calculate the os_hash_value", 64, readOnly=True),
    "os_hash_value": nullable(
        "Hexdigest of the image contents using the algorithm specified by the os_hash_algo",
        128,
        readOnly=True,
    ),
    "owner": nullable("Owner of the image", 255),
    "size": read_only(["null", "integer"], "Size of image file in bytes"),
    "virtual_size": read_only(["null", "integer"], "Virtual size of image in bytes"),
    "container_format": nullable("Format of the container"),
    "disk_format": nullable("Format of the disk"),
    "created_at": read_only("string", "Date and time of image registration"),
    "updated_at": read_only("string", "Date and time of the last image modification"),
    "tags": described(
        "array",
        "List of strings related to the image",
        items={"type": "string", "maxLength": 255},
    ),
    "direct_url": read_only("string", "URL to access the image file kept in external store"),
    "min_ram": described("integer", "Amount of ram (in MB) required to boot image."),
    "min_disk": described("integer", "Amount of disk space (in GB) required to boot image."),
    "self": read_only("string", "An image self url"),
    "file": read_only("string", "An image file url"),
    "stores": read_only(
        "string",
        "Store in which image data resides.  Only present when the operator has enabled"
        " multiple stores.  May be a comma-separated list of store identifiers.",
    ),
    "schema": read_only("string", "An image schema url"),
    "locations": described(
        "array",
        "A set of URLs to access the image file kept in external store",
        items=_LOCATION,
    ),
}
"""Every field of an image, but for the formats that the operator allows."""


def with_formats(disk: Sequence[str], container: Sequence[str]) -> Fields:
    """Return the fields with the formats that the operator allows."""
    return {
        **FIELDS,
        "container_format": {**FIELDS["container_format"], "enum": [None, *container]},
        "disk_format": {**FIELDS["disk_format"], "enum": [None, *disk]},
    }


def image_schema(fields: Fields, required: Sequence[str]) -> Schema:
    """Describe an image, whose fields are members of the object, as are custom properties."""
    return {
        "name": "image",
        "properties": fields,
        "additionalProperties": {"type": "string"},
        **({"required": list(required)} if required else {}),
        "links": [
            {"rel": "self", "href": "{self}"},
            {"rel": "enclosure", "href": "{file}"},
            DESCRIBED_BY,
        ],
    }


def images_schema(image: Schema) -> Schema:
    """Describe a page of images."""
    return pages("images", {"type": "array", "items": image})
