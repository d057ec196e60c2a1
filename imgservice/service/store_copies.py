"""Remove the copy of an image's data from one of its stores."""

import attrs

from imgservice.domain.access import Access
from imgservice.domain.context import Context
from imgservice.domain.errors import Conflict, Forbidden, NotFound
from imgservice.domain.image import Image, Status
from imgservice.domain.locations import check_readable
from imgservice.service.events import Events, ImageUpdated
from imgservice.service.ports import ImageRepository, StoreChoice
from imgservice.service.removal import RemovalService


@attrs.frozen
class StoreCopyService:
    """Removes single copies; the image stays."""

    _images: ImageRepository
    _stores: StoreChoice
    _removal: RemovalService
    _access: Access
    _events: Events

    async def remove(self, context: Context, store_id: str, image_id: str) -> None:
        """Remove the data from this store; `Conflict` if the store still needs it.

        `NotFound` if the store has no data of the image, `Forbidden` if no other store has any.
        """

        def change(image: Image) -> Image:
            for rule in ("delete_image_location", "get_image_location"):
                self._access.require(context, rule, image)
            return self._without(image, store_id)

        self._stores.check_losing(store_id)
        with self._removal.losing_locations(image_id) as job:
            image = await self._images.update(image_id, change, context.project, job)
            await self._removal.remove_lost(job)
        self._events.tell(ImageUpdated(context=context, image=image))

    def _without(self, image: Image, store_id: str) -> Image:
        if image.status is not Status.ACTIVE:
            raise Conflict(
                "It's not allowed to remove image data from store if image status is not 'active'"
            )
        check_readable(image)
        kept = tuple(one for one in image.locations if self._stores.id_of(one) != store_id)
        if len(kept) == len(image.locations):
            raise NotFound(f"Image {image.id} is not stored in store {store_id}.")
        if not kept:
            raise Forbidden(
                "Cannot delete image data from the only store containing it. Consider deleting the"
                " image instead."
            )
        return attrs.evolve(image, locations=kept)
