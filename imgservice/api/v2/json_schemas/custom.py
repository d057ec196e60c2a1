"""Custom properties of images that the operator describes, and their values as text."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import TypeAlias

import attrs

from imgservice.api.v2.json_schemas.fields import Fields
from imgservice.domain.errors import Invalid

Scalar: TypeAlias = str | int | float | bool | None
WHOLE_NUMBERS = 1 << 63


@attrs.frozen
class CustomProperties:
    """The operator's schemas of some of the custom properties that images may have."""

    properties: Fields = attrs.field(factory=dict)
    required: tuple[str, ...] = ()

    def check_removed(self, name: str) -> None:
        """Raise `Invalid` when every image must have this property."""
        if name in self.required:
            raise Invalid(f"Provided object does not match schema 'image': {name} is required")

    def to_json(self, name: str, text: str | None) -> Scalar:
        """Return a stored value with the type that its schema names.

        A text that is no such value is returned unchanged: other programs may have written it.
        A property that has neither a schema nor a value is an empty string.
        """
        field = self.properties.get(name)
        if field is None:
            return "" if text is None else text
        return _typed(types_of(field), text)


def types_of(field: Mapping[str, object]) -> Sequence[object]:
    """Return the types that a schema allows; without any, it is that of a string."""
    types = field.get("type", "string")
    return types if isinstance(types, list) else [types]


def to_text(value: Scalar) -> str | None:
    """Return the value of a custom property as it is stored."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer() and abs(value) >= WHOLE_NUMBERS:
        raise Invalid("Whole numbers have at most 64 bits.")  # JSON readers lose digits of others
    return value if value is None else str(value)


def _integer(text: str) -> int:
    """Read a whole number, which JSON may have written as 1.0."""
    try:
        return int(text)
    except ValueError:
        value = float(text)
        if not value.is_integer():
            raise
        return int(value)


_BOOLEANS = {"true": True, "false": False, "True": True, "False": False, "1": True, "0": False}
_READERS: Mapping[object, Callable[[str], Scalar]] = {
    "boolean": _BOOLEANS.__getitem__,
    "integer": _integer,
    "number": float,
}


def _typed(types: Sequence[object], text: str | None) -> Scalar:
    if text is None or "string" in types:
        return text
    for type_ in types:
        with suppress(KeyError, ValueError):
            return _READERS[type_](text)
    return text
