"""Images as JSON documents: the ones that we answer, and the ones that clients send."""

from datetime import datetime
from typing import Any

from imgservice.domain.errors import Forbidden, Invalid
from imgservice.domain.image import Image, Visibility
from imgservice.service.images import RESERVED_PREFIX, NewImage
from imgservice.web.v2.schemas import ImageSchemas

RESERVED = ("location", "deleted", "deleted_at")
WRITABLE = (
    "id",
    "name",
    "owner",
    "visibility",
    "protected",
    "os_hidden",
    "disk_format",
    "container_format",
    "min_disk",
    "min_ram",
    "tags",
)
HIDDEN_PROPERTIES = ("os_glance_stage_host", "os_glance_hash_op_host")
"""Notes between nodes, shown to nobody."""


def timestamp(moment: datetime) -> str:
    """Write a naive UTC time as clients expect it, without fractions."""
    return moment.isoformat(timespec="seconds") + "Z"


def image_document(image: Image) -> dict[str, Any]:
    """Return the image as JSON has it; custom properties are members of the object itself."""
    path = f"/v2/images/{image.id}"
    document: dict[str, Any] = {
        name: "" if value is None else value
        for name, value in image.properties.items()
        if name not in HIDDEN_PROPERTIES
    }
    document.update(
        name=image.name,
        disk_format=image.disk_format,
        container_format=image.container_format,
        visibility=image.visibility,
        size=image.size,
        virtual_size=image.virtual_size,
        status=image.status,
        checksum=image.checksum,
        protected=image.protected,
        min_ram=image.min_ram,
        min_disk=image.min_disk,
        owner=image.owner,
        os_hidden=image.os_hidden,
        os_hash_algo=image.os_hash_algo,
        os_hash_value=image.os_hash_value,
        id=image.id,
        created_at=timestamp(image.created_at),
        updated_at=timestamp(image.updated_at),
        tags=image.tags,
        self=path,
        file=f"{path}/file",
        schema="/v2/schemas/image",
    )
    if image.locations:
        document["stores"] = ",".join(filter(None, (one.store for one in image.locations)))
    return document


def new_image(document: Any, schemas: ImageSchemas) -> NewImage:
    """Read the document of a create request; `Invalid` or `Forbidden` name the member at fault."""
    if not isinstance(document, dict):
        raise Invalid("Unexpected body type. Expected a JSON object.")
    _check_names(document, schemas)
    schemas.check(document)
    _check_text(document)
    fields = {name: document[name] for name in WRITABLE if name in document}
    if "visibility" in fields:
        fields["visibility"] = Visibility(fields["visibility"])
    properties = {name: value for name, value in document.items() if name not in WRITABLE}
    return NewImage(**fields, properties=properties)


def _check_names(document: dict[str, Any], schemas: ImageSchemas) -> None:
    for name in document:
        if name in schemas.read_only:
            raise Forbidden(f"Attribute '{name}' is read-only.")
        if name in RESERVED or name == "locations" or name.startswith(RESERVED_PREFIX):
            raise Forbidden(f"Attribute '{name}' is reserved.")


def _check_text(document: dict[str, Any]) -> None:
    """Refuse what not every database can hold: 4-byte UTF-8, null characters, overlong names."""
    for name, value in document.items():
        for text in (name, *(value if isinstance(value, list) else (value,))):
            if isinstance(text, str) and text and (max(text) > "\uffff" or "\0" in text):
                what = name.capitalize() if name in WRITABLE else f"Property {name!a}"
                kind = "null" if "\0" in text else "4 byte unicode"
                raise Invalid(f"{what} can't contain {kind} characters.")
        if len(name) > 255:
            raise Invalid(f"The property name {name[:40]!r}... is longer than 255 characters.")
