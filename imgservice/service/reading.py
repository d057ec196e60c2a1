"""Find the data of an image that a caller may read, and open it."""

import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import ClassVar, Literal, Self, TypeVar

import attrs

from imgservice.domain.access import Access
from imgservice.domain.context import Context
from imgservice.domain.errors import Forbidden, NotFound, Unavailable
from imgservice.domain.image import Image, Status
from imgservice.service.events import Events, ImageSent
from imgservice.service.ports import DataStore, ImageRepository, StoreChoice
from imgservice.store.interface import LocalFiles

T = TypeVar("T")


@attrs.frozen
class Copy:
    """One of the places from which the data can be read."""

    store: DataStore
    url: str = attrs.field(repr=False)


@attrs.frozen
class OpenBlocks:
    """Data that is read block by block."""

    is_file: ClassVar[Literal[False]] = False
    length: int
    """How many bytes there should be; the store may turn out to have fewer."""
    _first: bytes
    _rest: AsyncGenerator[bytes, None]

    @classmethod
    async def of(cls, copy: Copy, start: int, length: int) -> Self:
        """Open the copy by reading its first block: only that shows whether it can be read."""
        blocks = copy.store.read(copy.url, start, length)
        return cls(length, await anext(blocks, b""), blocks)

    async def blocks(self) -> AsyncGenerator[bytes, None]:
        """Yield the data. It can be read once."""
        if self._first:
            yield self._first
        async for block in self._rest:
            yield block

    async def aclose(self) -> None:
        await self._rest.aclose()


@attrs.frozen
class OpenFile:
    """Data in a local file, for callers that let the kernel read it."""

    is_file: ClassVar[Literal[True]] = True
    descriptor: int
    start: int
    length: int
    """How many bytes there should be; the file may be shorter."""

    async def aclose(self) -> None:
        os.close(self.descriptor)


@attrs.frozen
class ImageData:
    """The data of an image that the caller may read."""

    image: Image
    size: int = 0
    copies: Sequence[Copy] = ()
    """In the order in which they are tried; none when the image has no data."""

    async def open(self, start: int = 0, length: int | None = None) -> OpenBlocks | None:
        """Open `length` bytes from `start`, or all up to the end, of the first copy that opens.

        None when no store has the data; `Unavailable` when one may have it, but fails. Close what
        is returned: `async with aclosing(opened)`.
        """
        wanted = self.size - start if length is None else length
        return await self._first_of(lambda copy: OpenBlocks.of(copy, start, wanted))

    async def open_file(
        self, start: int = 0, length: int | None = None
    ) -> OpenFile | OpenBlocks | None:
        """Do as `open` does, but open a copy that is a local file as such."""
        wanted = self.size - start if length is None else length

        async def open_copy(copy: Copy) -> OpenFile | OpenBlocks:
            if isinstance(copy.store, LocalFiles):
                return OpenFile(await copy.store.open_file(copy.url), start, wanted)
            return await OpenBlocks.of(copy, start, wanted)

        return await self._first_of(open_copy)

    async def _first_of(self, open_copy: Callable[[Copy], Awaitable[T]]) -> T | None:
        trouble: Unavailable | None = None
        for copy in self.copies:
            try:
                return await open_copy(copy)
            except NotFound:
                continue
            except Unavailable as error:
                trouble = error
        if trouble is not None:
            raise trouble
        return None


class ReadingService:
    """Gives callers the data of the images that they may read."""

    def __init__(
        self, images: ImageRepository, stores: StoreChoice, access: Access, events: Events
    ) -> None:
        self._images = images
        self._stores = stores
        self._access = access
        self._events = events

    async def find(self, context: Context, image_id: str, prefer: Sequence[str] = ()) -> ImageData:
        """Find the data of an image for the caller.

        `prefer` names stores to try before all others, in this order; a policy rule of its own
        allows that.
        """
        image = await self._images.get(image_id, context.project)
        self._access.require(context, "download_image", image)
        if image.status is Status.DEACTIVATED and not context.is_admin:
            raise Forbidden(
                "The requested image has been deactivated. Image data download is forbidden."
            )
        if prefer:
            self._access.require(context, "download_from_store", image)
        self._stores.check_preferred(prefer)
        if image.status not in (Status.ACTIVE, Status.DEACTIVATED):
            return ImageData(image)
        return ImageData(image, image.size or 0, self._copies(image, prefer))

    def note_sent(self, context: Context, image: Image, sent: int) -> None:
        """Tell that so many bytes of the image's data were sent to the caller."""
        self._events.tell(ImageSent(context=context, image=image, sent=sent))

    def _copies(self, image: Image, prefer: Sequence[str]) -> list[Copy]:
        """Return the copies in stores that are configured here; `Unavailable` if there are only
        others."""
        copies, reason = [], None
        for location in self._stores.order(image.locations, prefer):
            try:
                copies.append(Copy(self._stores.holding(location), location.url))
            except Unavailable as error:
                reason = error
        if reason is not None and not copies:
            raise reason
        return copies
