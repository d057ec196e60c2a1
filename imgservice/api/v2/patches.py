"""Reads the body of a PATCH request: a JSON patch in one of two media types."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from imgservice.api.v2.json_schemas.custom import to_text
from imgservice.api.v2.json_schemas.image_schemas import ImageSchemas
from imgservice.domain.documents import Json
from imgservice.domain.errors import UnsupportedPatch
from imgservice.domain.limits import ImageLimits
from imgservice.domain.names import IMAGE_FIELDS, LOCATIONS
from imgservice.domain.patch import Accept, Operation, read_current, read_draft

Reader = Callable[[Json, Accept], Iterator[Operation]]

READERS: Mapping[str, Reader] = {
    "application/openstack-images-v2.0-json-patch": read_draft,
    "application/openstack-images-v2.1-json-patch": read_current,
}


def reader_of(content_type: str | None) -> Reader:
    """Return what reads bodies of this type; `UnsupportedPatch` for any other type."""
    reader = READERS.get((content_type or "").partition(";")[0].strip().lower())
    if reader is None:
        raise UnsupportedPatch(", ".join(READERS))
    return reader


def operations_of(
    reader: Reader, document: Json, schemas: ImageSchemas, limits: ImageLimits
) -> Sequence[Operation]:
    """Read the operations, and check each before the next one is read.

    `Invalid` and `Forbidden` are raised for what no image would allow, `TooLarge` for too many
    operations.
    """
    if isinstance(document, list):
        limits.check_operations(document)
    operations = list(reader(document, partial(_accept, schemas)))
    last = {operation.name: operation.verb for operation in operations}
    schemas.check_removed(name for name, verb in last.items() if verb == "remove")
    return operations


def _accept(schemas: ImageSchemas, path: tuple[str, ...], value: Any) -> Any:
    """Check a value, and return it as it is stored: custom properties are texts."""
    name = path[0]
    schemas.check_part({name: value if len(path) == 1 else [value]})
    return value if name == LOCATIONS or name in IMAGE_FIELDS else to_text(value)
