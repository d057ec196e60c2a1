"""What a store is: the contract that every driver keeps, checked by its own test suite."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from typing import Protocol, runtime_checkable

import attrs

from imgservice.domain.errors import (
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    TooLarge,
    Unavailable,
)


class StoreError(Exception):
    """Marks what a driver raises. A message never holds a location or a credential."""


class DataNotFound(NotFound, StoreError):
    """There is no object at the location."""


class DataExists(Conflict, StoreError):
    """There is already an object for this image."""


class DataInUse(Conflict, StoreError):
    """Something, a clone perhaps, still needs the object."""


class StoreFull(TooLarge, StoreError):
    """No room for the data, or more than one object may hold."""


class StoreUnavailable(Unavailable, StoreError):
    """The store cannot be written or reached at present."""


class StoreReadOnly(Forbidden, StoreError):
    """Objects are neither added to the store nor removed from it."""


class LocationRefused(Invalid, StoreError):
    """The store does not look at such a location."""


@attrs.frozen
class Stored:
    """Where `add` put the data, and how much it was."""

    url: str = attrs.field(repr=False)
    size: int
    metadata: Mapping[str, object] = attrs.field(factory=dict)
    """What the driver itself adds to the location's metadata."""


class Store(Protocol):
    """A place for the bytes of images, in objects named by the image's id.

    Drivers never hold more than a few blocks of an object in memory, never block the reactor, and
    let `DataNotFound`, `DataExists`, `DataInUse`, `StoreFull` and `StoreUnavailable` speak for
    what went wrong.
    """

    async def add(self, image_id: str, data: AsyncIterator[bytes], size: int | None) -> Stored:
        """Store all of `data` as the object of `image_id`.

        `size` is the number of bytes to expect, None when nobody knows; it is a hint, and the
        caller checks it. The object comes into being whole: no reader ever sees half of it. When
        `data` raises or the store fails, nothing is left behind and the error comes out.
        `DataExists` when the image already has an object, which stays untouched.
        """

    def read(
        self, url: str, start: int = 0, length: int | None = None
    ) -> AsyncGenerator[bytes, None]:
        """Yield `length` bytes from `start`, or all up to the end, in blocks of any size.

        `DataNotFound` comes with the first block. An object shorter than asked for simply ends
        early; the caller counts. Who stops before the end closes the generator.
        """

    async def delete(self, url: str) -> None:
        """Remove the object; `DataNotFound` when there is none."""

    async def size(self, url: str) -> int:
        """Return the size of the object in bytes."""

    async def discard(self, image_id: str) -> None:
        """Remove whatever an `add` for `image_id` left when its process died: parts, or a whole
        object that nobody came to record. Finding nothing is fine.
        """

    async def check(self) -> None:
        """Raise `StoreUnavailable`, with the reason, when data could not be added now."""


@runtime_checkable
class TellsTrouble(Protocol):
    """The ability of a store to notice that it cannot work, whoever needs it just now."""

    tell: Callable[[str], object]
    """To be set by whoever wants to be told why, in any thread."""
    place: str
    """Where it is, for people; without credentials."""

    async def probe(self, thoroughly: bool) -> None:
        """Raise `StoreUnavailable` or `StoreFull` when data could not be added now.

        This makes nothing that is missing. Thoroughly, it stores a few bytes and removes them.
        """


@runtime_checkable
class LocalFiles(Protocol):
    """The ability of a store whose objects are plain files: the kernel can send them."""

    async def open_file(self, url: str) -> int:
        """Return a descriptor, open for reading, which the caller closes."""


@runtime_checkable
class TakesLocations(Protocol):
    """The ability of a store to serve objects that somebody else put at their place."""

    def takes(self, url: str) -> bool:
        """Tell, from the URL alone, whether it may be recorded as a location in this store."""
