"""Changes to the locations of an image."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import orjson

from imgservice.domain.errors import Conflict, Forbidden, ImageServiceError, Invalid
from imgservice.domain.image import Content, Image, Location, Status
from imgservice.domain.limits import ImageLimits
from imgservice.domain.patch import Operation
from imgservice.domain.url_filter import LONGEST_URL

_ALGORITHMS = ("sha512", "sha256", "sha1", "md5")
_HEX = re.compile(r"[0-9a-fA-F]*")
_DEEPEST = 32
"""Levels of nested lists and objects in the metadata of a location."""
_FIELDS = ("checksum", "os_hash_algo", "os_hash_value")


@attrs.frozen
class Checksums:
    """Checksums that a client states for the data at a location, as lower-case hex digits."""

    os_hash_algo: str | None = None
    os_hash_value: str | None = None
    checksum: str | None = None

    def compare(self, found: Content) -> None:
        """Raise `Invalid` when the data has other checksums."""
        for name in _FIELDS:
            if getattr(self, name) not in (None, getattr(found, name)):
                raise Invalid(f"The data at the location has another {name}.")


@attrs.frozen
class NewLocation:
    """A location that a client adds."""

    url: str = attrs.field(repr=False)
    metadata: Mapping[str, object] = attrs.field(factory=dict)
    checksums: Mapping[str, str] = attrs.field(factory=dict)


@attrs.frozen
class Reached:
    """What was found out about a new location before it is recorded."""

    metadata: Mapping[str, object]
    """What is recorded of the store that serves it."""
    size: int


@attrs.frozen
class LocationRules:
    algorithm: str
    limits: ImageLimits


def read_location(document: object) -> NewLocation:
    """Read `{"url": …, "metadata": {…}, "validation_data": {…}}`."""
    if not isinstance(document, dict) or not isinstance(document.get("url"), str):
        raise Invalid("A location needs a url.")
    url, metadata = document["url"], document.get("metadata", {})
    checksums = document.get("validation_data", {})
    if not isinstance(metadata, dict) or not isinstance(checksums, dict):
        raise Invalid("The metadata and the validation_data of a location are JSON objects.")
    if len(url) > LONGEST_URL:
        raise Invalid(f"The url of a location has at most {LONGEST_URL} characters.")
    if not _is_storable(metadata, _DEEPEST):
        raise Invalid("The metadata of a location holds texts, lists and objects, not too deep.")
    if re.search("[\0\U00010000-\U0010ffff]", url + orjson.dumps(metadata).decode()):
        raise Invalid("A location can't contain null or 4 byte unicode characters.")
    if not all(isinstance(value, str) for value in checksums.values()):
        raise Invalid("Values of the validation_data are strings.")
    return NewLocation(url, metadata, checksums)


def _is_storable(value: object, depth: int) -> bool:
    """Tell whether Glance, which may share the database, accepts the value as metadata, too."""
    if isinstance(value, str):
        return True
    if depth == 0 or not isinstance(value, dict | list):
        return False
    parts = value.values() if isinstance(value, dict) else value
    return all(_is_storable(part, depth - 1) for part in parts)


def read_checksums(given: Mapping[str, str], algorithm: str) -> Checksums:
    """Read checksums that nobody verifies; `Conflict` for impossible ones.

    The algorithm must be the one that this service uses.
    """
    if given.get("os_hash_algo", algorithm) != algorithm:
        raise Conflict(
            f"os_hash_algo must be {algorithm}, not {given['os_hash_algo']}: this service is set to"
            f" {algorithm}."
        )
    return _read_checksums(given, Conflict)


def read_any_checksums(given: Mapping[str, str], algorithm: str) -> Checksums:
    """Read checksums that the data is verified with; `Invalid` for impossible ones.

    The algorithm may be any known one, or the one that this service uses.
    """
    known = (*_ALGORITHMS, algorithm)
    if given.get("os_hash_algo", algorithm) not in known:
        raise Invalid(f"os_hash_algo must be one of {', '.join(dict.fromkeys(known))}.")
    return _read_checksums(given, Invalid)


def _read_checksums(given: Mapping[str, str], wrong: type[ImageServiceError]) -> Checksums:
    if ("os_hash_algo" in given) != ("os_hash_value" in given):
        raise wrong("Both os_hash_algo and os_hash_value are needed, or neither.")
    found = {name: given[name] for name in _FIELDS if name in given}
    if "os_hash_algo" in found:
        found["os_hash_value"] = _digits("os_hash_value", found, found["os_hash_algo"], wrong)
    if "checksum" in found:
        found["checksum"] = _digits("checksum", found, "md5", wrong)
    return Checksums(**found)


def _digits(
    name: str, given: Mapping[str, str], algorithm: str, wrong: type[ImageServiceError]
) -> str:
    value = given[name]
    if not _HEX.fullmatch(value):
        raise wrong(f"{name} is not a valid hexadecimal value.")
    size = hashlib.new(algorithm, usedforsecurity=False).digest_size
    if len(value) != 2 * size:
        raise wrong(f"{name} is not the correct size for {algorithm} (should be {size} bytes).")
    return value.lower()


def check_formats(image: Image) -> None:
    """Raise `Invalid` when the image may not have data yet."""
    missing = [n for n in ("disk_format", "container_format") if getattr(image, n) is None]
    if missing:
        names = (
            f"Properties {' and '.join(missing)}" if len(missing) > 1 else f"Property {missing[0]}"
        )
        raise Invalid(f"{names} must be set prior to saving data.")


def check_readable(image: Image) -> None:
    """Raise `Conflict` when the image has an encrypted location."""
    if any(location.is_encrypted for location in image.locations):
        raise Conflict(
            f"A location of image {image.id} is encrypted, which this server does not support."
        )


# -- operations of a patch ------------------------------------------------------------------------


def new_locations(image: Image, operations: Sequence[Operation]) -> list[NewLocation]:
    """Return the locations in the operations that the image does not have yet."""
    present = {location.url for location in image.locations}
    named = [
        _read(image, document)
        for operation in operations
        if operation.verb != "remove"
        for document in _documents(operation)
    ]
    return [location for location in named if location.url not in present]


def _read(image: Image, document: object) -> NewLocation:
    """Read a location; an existing one may be given as clients see it."""
    wanted = read_location(document)
    if any(location.url == wanted.url for location in image.locations):
        return wanted
    shown = (one.url for one in image.locations if one.public_url == wanted.url)
    return attrs.evolve(wanted, url=next(shown, wanted.url))


def _documents(operation: Operation) -> Sequence[object]:
    if operation.verb == "add":
        return (operation.value,)
    if not isinstance(operation.value, list):
        raise Invalid("Locations are a list.")
    return operation.value


def change(
    image: Image,
    operation: Operation,
    reached: Mapping[str, Reached],
    rules: LocationRules,
) -> Image:
    """Apply the operation, and return the image; `reached` has the new locations by their URLs.

    A queued image that gets locations is active.
    """
    check_readable(image)
    if operation.verb == "remove":
        return _remove(image, operation)
    if image.status not in (Status.ACTIVE, Status.QUEUED):
        raise Conflict(
            f"It's not allowed to {operation.verb} locations if image status is {image.status}."
        )
    if operation.verb == "replace":
        return _replace(image, operation, reached, rules)
    return _add(image, operation, reached, rules)


def _remove(image: Image, operation: Operation) -> Image:
    if image.status is not Status.ACTIVE:
        raise Conflict(f"It's not allowed to remove locations if image status is {image.status}.")
    if len(image.locations) == 1:
        raise Forbidden("Cannot remove last location in the image.")
    position = _position(operation, len(image.locations) - 1)
    kept = [each for at, each in enumerate(image.locations) if at != position]
    return attrs.evolve(image, locations=tuple(kept))


def _add(
    image: Image, operation: Operation, reached: Mapping[str, Reached], rules: LocationRules
) -> Image:
    locations = list(image.locations)
    added = _read(image, operation.value)
    position = _position(operation, len(locations))
    locations.insert(position, _location(added, reached, image))
    return _with(image, locations, [added], reached, rules)


def _replace(
    image: Image, operation: Operation, reached: Mapping[str, Reached], rules: LocationRules
) -> Image:
    wanted = [_read(image, document) for document in _documents(operation)]
    if not wanted:
        raise Forbidden("Cannot set locations to empty list.")
    present = sorted(location.url for location in image.locations)
    if present and present != sorted(location.url for location in wanted):
        raise Invalid(
            "Original locations is not empty: only the metadata of its locations can be replaced."
        )
    locations = [_location(each, reached, image) for each in wanted]
    return _with(image, locations, wanted, reached, rules)


def _position(operation: Operation, most: int) -> int:
    text = operation.path[1] if len(operation.path) > 1 else ""
    if text == "-":
        return most
    if not re.fullmatch(r"[0-9]{1,9}", text) or int(text) > most:
        doing = {"add": "adding", "replace": "replacing", "remove": "removing"}[operation.verb]
        raise Invalid(f"Invalid position for {doing} a location.")
    return int(text)


def _location(wanted: NewLocation, reached: Mapping[str, Reached], image: Image) -> Location:
    if wanted.url in reached:
        return Location(wanted.url, {**wanted.metadata, **reached[wanted.url].metadata})
    for location in image.locations:
        if location.url == wanted.url:
            store = {"store": location.store} if location.store else {}
            return Location(wanted.url, {**wanted.metadata, **store})
    raise Conflict("The image was changed meanwhile.")


def _with(
    image: Image,
    locations: Sequence[Location],
    named: Sequence[NewLocation],
    reached: Mapping[str, Reached],
    rules: LocationRules,
) -> Image:
    urls = [location.url for location in locations]
    if len(set(urls)) < len(urls):
        raise Invalid("The location already exists: the image has it.")
    if len(locations) > len(image.locations):
        rules.limits.check_locations(locations)
    fields = _checksums(image, named, rules.algorithm)
    if image.status is Status.QUEUED:
        check_formats(image)
        fields["status"] = Status.ACTIVE
    size = _size(image, [reached[each.url] for each in named if each.url in reached])
    return attrs.evolve(image, locations=tuple(locations), size=size, **fields)


def _size(image: Image, new: Sequence[Reached]) -> int | None:
    sizes = {image.size} - {None} | {each.size for each in new}
    if len(sizes) > 1:
        raise Invalid("The data at the location does not have the size of the image.")
    return next(iter(sizes), None)


def _checksums(image: Image, named: Sequence[NewLocation], algorithm: str) -> dict[str, Any]:
    """Return the checksums that are new for the image; `Conflict` for others than it has."""
    found: dict[str, str] = {}
    for location in named:
        given = read_checksums(location.checksums, algorithm)
        for name in _FIELDS:
            value = getattr(given, name)
            if value is not None and found.setdefault(name, value) != value:
                raise Conflict(f"Conflicting values for {name}")
    new = {name: value for name, value in found.items() if getattr(image, name) != value}
    for name in new:
        if getattr(image, name):
            raise Conflict(f"{name} is already set with a different value")
    if new and image.status is not Status.QUEUED:
        raise Conflict(
            f"New value(s) for {', '.join(new)} may only be provided when image status is 'queued'"
        )
    return dict(new)
