"""Find the data of an image that a caller may read, and open it."""

from collections.abc import Sequence

import attrs

from imgservice.domain.access import Access
from imgservice.domain.context import Context
from imgservice.domain.errors import Forbidden, Unavailable
from imgservice.domain.image import Image, Status
from imgservice.service.copies import Copies, Copy, Note, OpenBlocks, OpenFile
from imgservice.service.events import Events, ImageSent
from imgservice.service.ports import ImageRepository, StoreChoice


@attrs.frozen
class ImageData:
    """The data of an image that the caller may read."""

    image: Image
    size: int
    _copies: Copies

    @property
    def copies(self) -> Sequence[Copy]:
        """In the order in which they are tried; none when the image has no data."""
        return self._copies.all

    async def open(self, start: int = 0, length: int | None = None) -> OpenBlocks | None:
        """Open `length` bytes from `start`, or all up to the end, of the first copy that opens.

        None when no store has the data; `Unavailable` when one may have it, but fails. If the copy
        breaks while it is read, another one continues it. Close what is returned:
        `async with aclosing(opened)`.
        """
        return await self._copies.open(start, self._length(start, length))

    async def open_file(
        self, start: int = 0, length: int | None = None
    ) -> OpenFile | OpenBlocks | None:
        """Do as `open` does, but open a copy that is a local file as such."""
        return await self._copies.open_file(start, self._length(start, length))

    def _length(self, start: int, length: int | None) -> int:
        return self.size - start if length is None else length


class ReadingService:
    """Gives callers the data of the images that they may read."""

    def __init__(
        self,
        images: ImageRepository,
        stores: StoreChoice,
        access: Access,
        events: Events,
        note: Note,
    ) -> None:
        """`note` tells the operator when a copy breaks while it is read, and another continues."""
        self._images = images
        self._stores = stores
        self._access = access
        self._events = events
        self._note = note

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
            return ImageData(image, 0, Copies(image.id, (), self._note))
        copies = Copies(image.id, self._copies(image, prefer), self._note)
        return ImageData(image, image.size or 0, copies)

    def note_sent(self, context: Context, image: Image, sent: int) -> None:
        """Tell that so many bytes of the image's data were sent to the caller."""
        self._events.tell(ImageSent(context=context, image=image, sent=sent))

    def _copies(self, image: Image, prefer: Sequence[str]) -> list[Copy]:
        """Return the copies in stores that are configured here; `Unavailable` if there are only
        others."""
        copies, reason = [], None
        for location in self._stores.order(image.locations, prefer):
            try:
                store_id, store = self._stores.holding(location)
                copies.append(Copy(store_id, store, location.url))
            except Unavailable as error:
                reason = error
        if reason is not None and not copies:
            raise reason
        return copies
