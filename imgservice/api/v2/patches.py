"""The body of a change: a JSON patch in one of two media types."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import attrs

from imgservice.api.v2.documents import check_text
from imgservice.api.v2.json_schemas.custom import to_text
from imgservice.api.v2.json_schemas.image_schemas import ImageSchemas
from imgservice.domain.errors import UnsupportedPatch
from imgservice.domain.limits import ImageLimits
from imgservice.domain.patch import (
    FIELDS,
    LOCATIONS,
    Operation,
    check_name,
    read_current,
    read_draft,
)

Reader = Callable[[Any], Iterator[Operation]]

READERS: Mapping[str, Reader] = {
    "application/openstack-images-v2.0-json-patch": read_draft,
    "application/openstack-images-v2.1-json-patch": read_current,
}


def reader_of(content_type: str | None) -> Reader:
    """Return what reads bodies of that type; `UnsupportedPatch` when there is nothing."""
    reader = READERS.get((content_type or "").partition(";")[0].strip().lower())
    if reader is None:
        raise UnsupportedPatch(", ".join(READERS))
    return reader


def operations_of(
    reader: Reader, document: Any, schemas: ImageSchemas, limits: ImageLimits
) -> Sequence[Operation]:
    """Read the operations, each checked before the next one is looked at.

    `Invalid` and `Forbidden` tell what no image at all would allow, `TooLarge` that there are too
    many.
    """
    if isinstance(document, list):
        limits.check_operations(document)
    operations = [_checked(operation, schemas) for operation in reader(document)]
    last = {operation.name: operation.verb for operation in operations}
    schemas.check_removed(name for name, verb in last.items() if verb == "remove")
    return operations


def _checked(operation: Operation, schemas: ImageSchemas) -> Operation:
    check_name(operation)
    name, value = operation.name, operation.value
    if operation.verb == "remove":
        return operation
    schemas.check_part({name: value if len(operation.path) == 1 else [value]})
    if name == LOCATIONS:
        return operation
    check_text({name: value})
    return operation if name in FIELDS else attrs.evolve(operation, value=to_text(value))
