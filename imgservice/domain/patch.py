"""Changes of an image by JSON patches."""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, cast

import attrs

from imgservice.domain.documents import Json, JsonObject
from imgservice.domain.errors import Conflict, Forbidden, Invalid
from imgservice.domain.image import Image, Status, Visibility
from imgservice.domain.limits import bounded
from imgservice.domain.names import IMAGE_FIELDS, LOCATIONS, check_name
from imgservice.domain.storable import check_storable

Verb = Literal["add", "remove", "replace"]
VERBS: tuple[Verb, ...] = ("add", "remove", "replace")
_ALL_VERBS = "It must be one of the following: add, remove, replace."
_SHOWN = 80
"""Characters of a client's input that an error repeats."""

_DEPTHS: Mapping[Verb, int] = {"add": 2, "remove": 2, "replace": 1}
"""How many parts a pointer to locations has."""
_FORMATS = ("disk_format", "container_format")
_WITHOUT_DATA = (Status.QUEUED, Status.IMPORTING)


@attrs.frozen
class Operation:
    """One step of a patch, with text that can be stored.

    `path` is the pointer, split and unescaped.
    """

    verb: Verb
    path: tuple[str, ...]
    value: Any = None
    """Of a type that the field or the schema of the property allows."""
    strict: bool = False
    """Whether `add` fails if there is a value, as with the older of the two media types."""

    def __attrs_post_init__(self) -> None:
        if self.verb != "remove" and self.name != LOCATIONS:
            check_storable(self.name, self.value)

    @property
    def name(self) -> str:
        return self.path[0]


Accept = Callable[[tuple[str, ...], Json], object]
"""Checks the value for a path, and returns it as it is stored."""


# -- reading --------------------------------------------------------------------------------------


def read_current(document: Json, accept: Accept) -> Iterator[Operation]:
    """Read `[{"op": …, "path": …, "value": …}, …]`.

    Check each operation before the next one is read: `Invalid`, or `Forbidden` for what no client
    may change.
    """
    for change in _changes(document):
        yield _current(change, accept)


def read_draft(document: Json, accept: Accept) -> Iterator[Operation]:
    """Do the same with the older `[{"replace": "/name", "value": …}, …]`."""
    for change in _changes(document):
        yield _draft(change, accept)


def _changes(document: Json) -> Iterator[JsonObject]:
    if not isinstance(document, list):
        raise Invalid("Request body must be a JSON array of operation objects.")
    for change in document:
        if not isinstance(change, dict):
            raise Invalid("Operations must be JSON objects.")
        yield change


def _current(change: JsonObject, accept: Accept) -> Operation:
    verb = change.get("op")
    if verb is None:
        raise Invalid(f"Unable to find `op` in JSON Schema change. {_ALL_VERBS}")
    if verb not in VERBS:
        raise Invalid(f"Invalid operation: `{str(verb)[:_SHOWN]}`. {_ALL_VERBS}")
    if "path" not in change:
        raise Invalid("Unable to find 'path' in JSON Schema change")
    path = _path(verb, change["path"])
    return _operation(verb, path, _value(verb, change), False, accept)


def _draft(change: JsonObject, accept: Accept) -> Operation:
    verbs = [verb for verb in VERBS if verb in change]
    if len(verbs) != 1:
        count = "only one" if verbs else "exactly one"
        raise Invalid(
            f'Operation objects must contain {count} member named "add", "remove", or "replace".'
        )
    [verb] = verbs
    return _operation(verb, _path(verb, change[verb]), _value(verb, change), True, accept)


def _operation(
    verb: Verb, path: tuple[str, ...], value: Json, strict: bool, accept: Accept
) -> Operation:
    check_name(path[0])
    accepted = None if verb == "remove" else accept(path, value)
    return Operation(verb, path, accepted, strict)


def _value(verb: Verb, change: JsonObject) -> Json:
    if verb == "remove":
        return None
    if "value" not in change:
        raise Invalid(f'Operation "{verb}" requires a member named "value".')
    return change["value"]


def _path(verb: Verb, pointer: object) -> tuple[str, ...]:
    """Split a pointer; only one to locations may have more than one part."""
    path = split_pointer(pointer)
    if len(path) != (_DEPTHS[verb] if path[0] == LOCATIONS else 1):
        raise Invalid(f"Invalid JSON pointer for this resource: '{str(pointer)[:_SHOWN]}'")
    return path


def split_pointer(pointer: object) -> tuple[str, ...]:
    """Return the unescaped parts of a JSON pointer, without surrounding spaces."""
    if not isinstance(pointer, str):
        raise Invalid("A JSON pointer must be a string.")
    shown = pointer[:_SHOWN]
    if not pointer.startswith("/"):
        raise Invalid(f'Pointer `{shown}` does not start with "/".')
    if re.search(r"/\s*/", pointer[1:]):
        raise Invalid(f'Pointer `{shown}` contains adjacent "/".')
    if len(pointer) > 1 and pointer.endswith("/"):
        raise Invalid(f'Pointer `{shown}` end with "/".')
    if re.search(r"~(?![01])", pointer):
        raise Invalid(f'Pointer `{shown}` contains "~" not part of a recognized escape sequence.')
    return tuple(
        part.replace("~1", "/").replace("~0", "~").strip() for part in pointer[1:].split("/")
    )


# -- applying -------------------------------------------------------------------------------------


def begin(image: Image) -> Image:
    """Return the image with a copy of its custom properties, which `apply` changes in place.

    A copy for each operation would take quadratic time.
    """
    return attrs.evolve(image, properties=dict(image.properties))


def apply(image: Image, operation: Operation) -> Image:
    """Apply the operation, whose value the schema allows, to an image that `begin` returned."""
    if operation.name not in IMAGE_FIELDS:
        check_property(operation, operation.name in image.properties)
        return change_property(image, operation)
    if operation.verb == "remove":
        raise Forbidden(f"Property {operation.name} may not be removed.")
    if operation.strict and operation.verb == "add":
        raise Conflict(f"Property {operation.name} already present.")
    return _set(image, operation.name, operation.value)


def check_property(operation: Operation, is_present: bool) -> None:
    """Raise for an operation on a custom property that its presence or absence forbids."""
    name = operation.name
    if operation.verb != "add":
        if not is_present:
            raise Conflict(f"Property {name} does not exist.")
    elif name == "stores":  # documents of images have a member of this name
        raise Forbidden(f"Attribute '{name}' is read-only.")
    elif operation.strict and is_present:
        raise Conflict(f"Property {name} already present.")


def change_property(image: Image, operation: Operation) -> Image:
    """Apply an operation that `check_property` allowed."""
    properties = cast(dict[str, str | None], image.properties)
    if operation.verb == "remove":
        del properties[operation.name]
    else:
        properties[operation.name] = operation.value
    return image


def _set(image: Image, name: str, value: Any) -> Image:
    if name in _FORMATS and image.status not in _WITHOUT_DATA:
        raise Forbidden(f"Attribute {name} can be only replaced for a queued image.")
    if name in ("min_disk", "min_ram"):
        value = bounded(name, value)
    elif name == "tags":
        value = tuple(sorted(set(value)))
    elif name == "visibility":
        value = Visibility(value)
    return attrs.evolve(image, **{name: value})
