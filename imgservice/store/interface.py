"""The contract that every store driver keeps; `tests/contract/test_store.py` checks it."""

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
    """Marks the errors of drivers. Clients see the messages: no location, path or credential."""


class DataNotFound(NotFound, StoreError):
    """There is no object at the location."""


class DataExists(Conflict, StoreError):
    """There is already an object for this image."""


class DataInUse(Conflict, StoreError):
    """Something, such as a clone, still needs the object."""


class StoreFull(TooLarge, StoreError):
    """There is no room for the data, or it is too large for one object."""


class StoreUnavailable(Unavailable, StoreError):
    """The store cannot be reached, or fails, at present."""


class CleanupPending(StoreUnavailable):
    """An `add` failed, and so did the removal of what it had stored: `discard` is to be called."""


class StoreReadOnly(Forbidden, StoreError):
    """The store takes no data and removes none."""


class LocationRefused(Invalid, StoreError):
    """The store may not access the location."""


@attrs.frozen
class Stored:
    """Where `add` stored the data, and how many bytes."""

    url: str = attrs.field(repr=False)
    size: int
    metadata: Mapping[str, object] = attrs.field(factory=dict)
    """What the driver adds to the metadata of the location."""


class Store(Protocol):
    """A place for the data of images, in objects named by the image's id.

    A driver never has more than a few blocks of an object in memory, and never blocks the reactor.
    It raises the errors above.

    Any `await` of a driver may be cancelled (`CancelledError`): the promises below hold then, too.
    A thread cannot be cancelled and may finish what it began, so that undoing must wait for it.
    """

    async def add(self, image_id: str, data: AsyncIterator[bytes], size: int | None) -> Stored:
        """Store all of `data` as the object of `image_id`.

        `size` is the number of bytes to expect, None when it is not known; it is only a hint, which
        the caller checks. The object appears at once and whole: no reader sees a part of it. When
        `data` raises or the store fails, nothing is left behind, and the error is passed on. A
        client that disconnects, or sends wrong data, shows as an error that `data` raises.
        `DataExists` when the image has an object already, which is left unchanged. `CleanupPending`
        when something may be left, since the store failed at that, too.
        """

    def read(
        self, url: str, start: int = 0, length: int | None = None
    ) -> AsyncGenerator[bytes, None]:
        """Yield `length` bytes from `start`, or all up to the end, in blocks of at most 1 MiB.

        `DataNotFound` is raised in place of the first block. A range beyond the end of the object
        ends early, without an error; the caller counts. A caller that stops before the end closes
        the generator, or just forgets it: a `finally` in it awaits nothing.
        """

    async def delete(self, url: str) -> None:
        """Remove the object; `DataNotFound` when there is none."""

    async def size(self, url: str) -> int:
        """Return the size of the object in bytes; `DataNotFound` when there is none."""

    async def discard(self, image_id: str) -> None:
        """Remove what an `add` for `image_id` left when its process died: parts of an object, or a
        whole one that was never recorded. It is no error when there is nothing.
        """

    async def check(self) -> None:
        """Raise `StoreUnavailable`, with the reason, when data could not be added now.

        The service calls this at its start; it may create what is missing. It leaves no object.
        """


@runtime_checkable
class TellsTrouble(Protocol):
    """The ability of a store to report that it fails, also between requests."""

    tell: Callable[[str], object]
    """Called with the reason, in any thread; set by the service."""
    place: str
    """Where the store is, for operators; without credentials."""

    async def probe(self, thoroughly: bool) -> None:
        """Raise `StoreUnavailable` or `StoreFull` when data could not be added now.

        This creates nothing that is missing. Thoroughly, it stores a few bytes and removes them.
        """


@runtime_checkable
class KeepsConnections(Protocol):
    """The ability of a store to keep connections for later requests."""

    async def close(self) -> None:
        """Close them; nothing is asked of the store any more."""


@runtime_checkable
class LocalFiles(Protocol):
    """The ability of a store whose objects are local files, which the kernel can send."""

    async def open_file(self, url: str) -> int:
        """Return a descriptor, open for reading, which the caller closes; errors as in `read`."""


@runtime_checkable
class TakesLocations(Protocol):
    """The ability of a store to serve objects that others have put there."""

    def takes(self, url: str) -> bool:
        """Tell, from the URL alone, whether it may be recorded as a location in this store."""


@runtime_checkable
class KnowsItsUrls(Protocol):
    """The ability of a store to recognise its own URLs.

    It is used for locations that were recorded before stores had ids.
    """

    def holds(self, url: str) -> bool:
        """Tell, from the URL alone, whether it could be one of this store."""


@runtime_checkable
class FilesForProxy(Protocol):
    """The ability of a store whose objects are files that a proxy can read."""

    def proxy_path(self, url: str) -> str | None:
        """Return the path of the file below the proxy's prefix; None when it has none."""
