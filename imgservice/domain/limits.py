"""Limits of what an image may have."""

from collections.abc import Iterable, Mapping, Sized

import attrs
import orjson

from imgservice.domain.errors import Invalid, TooLarge
from imgservice.domain.names import RESERVED_PREFIX

LARGEST_INTEGER = (1 << 31) - 1
LARGEST_SIZE = (1 << 63) - 1
"""Bytes: the largest number that the database can store as a size."""
LONGEST_VALUE = (1 << 16) - 1
"""Bytes in the value of a property: the size of a TEXT column in MySQL and MariaDB."""


@attrs.frozen
class ImageLimits:
    """How many of each an image may have; a negative number means no limit.

    `property_value` is how many bytes a value may have; 0 means no limit.
    """

    properties: int = 128
    tags: int = 128
    members: int = 128
    locations: int = 10
    property_value: int = LONGEST_VALUE
    operations: int = 1000
    """In one patch."""

    def check_operations(self, operations: Sized) -> None:
        check_count("operations", len(operations), self.operations)

    def check_properties(self, names: Iterable[str]) -> None:
        """Raise `TooLarge` for too many, not counting those of the service itself."""
        count = sum(not name.startswith(RESERVED_PREFIX) for name in names)
        check_count("properties", count, self.properties)

    def check_values(
        self, properties: Mapping[str, str | None], before: Mapping[str, str | None]
    ) -> None:
        """Raise `TooLarge` for a value that is too long, unless the property had it before."""
        for name, value in properties.items():
            if value is None or before.get(name) == value or name.startswith(RESERVED_PREFIX):
                continue
            if 3 * len(value) > self.property_value > 0:  # else it is short enough in any encoding
                self._check_length(f"value of property {name!a}", len(value.encode()))

    def check_metadata(self, metadata: Mapping[str, object]) -> None:
        """Raise `TooLarge` for too long metadata of a location, which is one column, too."""
        if self.property_value:
            self._check_length("metadata of a location", len(orjson.dumps(metadata)))

    def _check_length(self, what: str, length: int) -> None:
        if length > self.property_value:
            raise TooLarge(
                f"The {what} is {length} bytes long; at most {self.property_value} bytes are"
                " allowed (limits.property_value)."
            )

    def check_locations(self, locations: Sized) -> None:
        check_count("locations", len(locations), self.locations)

    def check_tags(self, tags: Sized) -> None:
        check_count("tags", len(tags), self.tags)


def check_count(what: str, count: int, limit: int) -> None:
    if 0 <= limit < count:
        raise TooLarge(
            f"The limit has been exceeded on the number of allowed image {what}."
            f" Attempted: {count}, Maximum: {limit}"
        )


def bounded(name: str, value: float) -> int:
    """Return the value as an integer (JSON may contain 1.0); `Invalid` if it cannot be stored."""
    if value < 0:
        raise Invalid(f"Invalid value '{value}' for parameter '{name}': Cannot be a negative value")
    if value > LARGEST_INTEGER:
        raise Invalid(f"'{name}' value out of range, must not exceed {LARGEST_INTEGER}.")
    return int(value)
