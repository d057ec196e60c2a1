"""Use cases around an image's record: create, show, list, change, delete."""

import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import attrs

from imgservice.domain import patch
from imgservice.domain.access import Access
from imgservice.domain.context import Context
from imgservice.domain.errors import Forbidden, NotFound
from imgservice.domain.image import Image, Precondition, Status, Visibility
from imgservice.domain.limits import ImageLimits, bounded
from imgservice.domain.patch import Operation
from imgservice.domain.query import ImageQuery
from imgservice.service.data import DataService
from imgservice.service.locations import LocationChange, LocationService
from imgservice.service.ports import ImageRepository


@attrs.frozen
class NewImage:
    """What a client asks for when it creates an image."""

    id: str | None = None
    name: str | None = None
    owner: str | None = None
    """None: the project of who asks."""
    ownerless: bool = False
    """Nobody's, and for everybody to see; `owner` says nothing then."""
    visibility: Visibility = Visibility.SHARED
    protected: bool = False
    os_hidden: bool = False
    disk_format: str | None = None
    container_format: str | None = None
    min_disk: int = 0
    min_ram: int = 0
    tags: Sequence[str] = ()
    properties: Mapping[str, str | None] = attrs.field(factory=dict)


class ImageService:
    def __init__(
        self,
        images: ImageRepository,
        data: DataService,
        limits: ImageLimits,
        locations: LocationService,
        access: Access,
    ) -> None:
        self._images = images
        self._data = data
        self._limits = limits
        self._locations = locations
        self._access = access

    async def create(self, context: Context, wanted: NewImage) -> Image:
        """Record a new, empty image."""
        image = self._new(context, wanted)
        self._check_owner(context, wanted)
        self._access.require_new(context, "add_image", image)
        self._check_visibility(context, image, image.visibility)
        self._limits.check_properties(image.properties)
        self._limits.check_tags(image.tags)
        await self._images.add(image)
        return image

    async def show(self, context: Context, image_id: str) -> Image:
        image = await self._images.get(image_id, context.project)
        self._access.require_visible(context, image)
        return image

    async def list(self, context: Context, query: ImageQuery) -> Sequence[Image]:
        self._access.require_general(context, "get_images")
        return await self._images.list(query)

    async def update(
        self,
        context: Context,
        image_id: str,
        operations: Sequence[Operation],
        unless: Precondition | None = None,
    ) -> Image:
        """Apply all of the operations, or none, and return the image as it then is.

        `unless` looks at the image before anything is done to it, while nobody else can change it,
        and raises to refuse. It may be called more than once and in any thread.
        """

        change_locations = await self._locations.prepare(context, image_id, operations)

        def change(image: Image) -> Image:
            self._access.require_visible(context, image)
            if unless is not None:
                unless(image)
            changed = image
            for operation in operations:
                changed = self._apply(context, changed, operation, change_locations)
            if changed.properties.keys() - image.properties.keys():
                self._limits.check_properties(changed.properties)
            return changed

        lease = self._data.removal(image_id)
        changed = await self._images.update(image_id, change, context.project, lease)
        if any(each.name == patch.LOCATIONS and each.verb == "remove" for each in operations):
            await self._data.remove_lost(lease)
        return changed

    async def add_tag(self, context: Context, image_id: str, tag: str) -> None:
        """Give the image a tag; nothing changes when it has it already."""

        def change(image: Image) -> Image:
            self._access.require(context, "modify_image", image)
            if tag in image.tags:
                return image
            tagged = attrs.evolve(image, tags=(*image.tags, tag))
            self._limits.check_tags(tagged.tags)
            return tagged

        await self._images.update(image_id, change, context.project)

    async def remove_tag(self, context: Context, image_id: str, tag: str) -> None:
        """Take a tag from the image; `NotFound` when it has none such."""

        def change(image: Image) -> Image:
            self._access.require(context, "modify_image", image)
            if tag not in image.tags:
                raise NotFound("The resource could not be found.")
            return attrs.evolve(image, tags=tuple(each for each in image.tags if each != tag))

        await self._images.update(image_id, change, context.project)

    async def deactivate(self, context: Context, image_id: str) -> None:
        """Let only admins download the data."""
        await self._switch(context, image_id, "deactivate", Status.ACTIVE, Status.DEACTIVATED)

    async def reactivate(self, context: Context, image_id: str) -> None:
        """Take `deactivate` back."""
        await self._switch(context, image_id, "reactivate", Status.DEACTIVATED, Status.ACTIVE)

    async def _switch(
        self, context: Context, image_id: str, action: str, before: Status, after: Status
    ) -> None:
        def change(image: Image) -> Image:
            self._access.require(context, action, image)
            if image.status is after:
                return image
            if image.status is not before:
                raise Forbidden(f"Not allowed to {action} image in status '{image.status}'")
            return attrs.evolve(image, status=after)

        await self._images.update(image_id, change, context.project)

    async def delete(
        self, context: Context, image_id: str, unless: Precondition | None = None
    ) -> None:
        """Remove the image and its data; what is protected, or still needed by a store, stays.

        `unless` as in `update`.
        """
        image = await self.show(context, image_id)
        self._access.require(context, "delete_image", image)
        await self._data.delete(image, unless)

    def _new(self, context: Context, wanted: NewImage) -> Image:
        now = datetime.now(UTC).replace(tzinfo=None)
        return Image(
            id=wanted.id or str(uuid.uuid4()),
            status=Status.QUEUED,
            created_at=now,
            updated_at=now,
            name=wanted.name,
            owner=_owner(context, wanted),
            visibility=wanted.visibility,
            protected=wanted.protected,
            os_hidden=wanted.os_hidden,
            disk_format=wanted.disk_format,
            container_format=wanted.container_format,
            min_disk=bounded("min_disk", wanted.min_disk),
            min_ram=bounded("min_ram", wanted.min_ram),
            tags=tuple(dict.fromkeys(wanted.tags)),
            properties=dict(wanted.properties),
        )

    def _check_owner(self, context: Context, wanted: NewImage) -> None:
        owner = _owner(context, wanted)
        if owner != context.project and not context.is_admin:
            raise Forbidden(f"You are not permitted to create images owned by '{owner}'.")

    def _apply(
        self,
        context: Context,
        image: Image,
        operation: Operation,
        change_locations: LocationChange,
    ) -> Image:
        if operation.name == patch.LOCATIONS:
            return change_locations(context, image, operation)
        if operation.name == "owner" and not context.is_admin:
            raise Forbidden("Owner can't be updated by non admin.")
        if operation.name == "visibility" and operation.verb != "remove":
            self._check_visibility(context, image, Visibility(operation.value))
        self._access.require(context, "modify_image", image)
        changed = patch.apply(image, operation)
        if operation.name == "tags":
            self._limits.check_tags(changed.tags)
        return changed

    def _check_visibility(self, context: Context, image: Image, wanted: Visibility) -> None:
        if wanted is Visibility.PUBLIC:
            self._access.require_new(context, "publicize_image", image)
        elif wanted is Visibility.COMMUNITY:
            self._access.require_new(context, "communitize_image", image)


def _owner(context: Context, wanted: NewImage) -> str | None:
    if wanted.ownerless:
        return None
    return context.project if wanted.owner is None else wanted.owner
