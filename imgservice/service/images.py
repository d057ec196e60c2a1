"""Use cases around an image's record: create, show, list, delete."""

import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import attrs

from imgservice.domain import access
from imgservice.domain.context import Context
from imgservice.domain.errors import Forbidden, Invalid, TooLarge
from imgservice.domain.image import Image, Status, Visibility
from imgservice.domain.query import ImageQuery
from imgservice.service.data import DataService
from imgservice.service.ports import ImageRepository

LARGEST_INTEGER = (1 << 31) - 1
RESERVED_PREFIX = "os_glance"


@attrs.frozen
class NewImage:
    """What a client asks for when it creates an image."""

    id: str | None = None
    name: str | None = None
    owner: str | None = None
    visibility: Visibility = Visibility.SHARED
    protected: bool = False
    os_hidden: bool = False
    disk_format: str | None = None
    container_format: str | None = None
    min_disk: int = 0
    min_ram: int = 0
    tags: Sequence[str] = ()
    properties: Mapping[str, str] = attrs.field(factory=dict)


@attrs.frozen
class ImageLimits:
    """How many of each an image may have; negative: any number."""

    properties: int = 128
    tags: int = 128


class ImageService:
    def __init__(self, images: ImageRepository, data: DataService, limits: ImageLimits) -> None:
        self._images = images
        self._data = data
        self._limits = limits

    async def create(self, context: Context, wanted: NewImage) -> Image:
        """Record a new, empty image."""
        image = self._new(context, wanted)
        self._check_owner(context, wanted)
        access.require_new(context, "add_image", image)
        if image.visibility is Visibility.PUBLIC:
            access.require_new(context, "publicize_image", image)
        elif image.visibility is Visibility.COMMUNITY:
            access.require_new(context, "communitize_image", image)
        self._check_limits(image)
        await self._images.add(image)
        return image

    async def show(self, context: Context, image_id: str) -> Image:
        image = await self._images.get(image_id, context.project)
        access.require_visible(context, image)
        return image

    async def list(self, context: Context, query: ImageQuery) -> Sequence[Image]:
        if not context.is_admin and "reader" not in context.roles:
            raise Forbidden("You are not authorized to complete get_images action.")
        return await self._images.list(query)

    async def delete(self, context: Context, image_id: str) -> None:
        """Remove the image and its data; what is protected, or still needed by a store, stays."""
        image = await self.show(context, image_id)
        access.require(context, "delete_image", image)
        await self._data.delete(image)

    def _new(self, context: Context, wanted: NewImage) -> Image:
        now = datetime.now(UTC).replace(tzinfo=None)
        return Image(
            id=wanted.id or str(uuid.uuid4()),
            status=Status.QUEUED,
            created_at=now,
            updated_at=now,
            name=wanted.name,
            owner=context.project if wanted.owner is None else wanted.owner,
            visibility=wanted.visibility,
            protected=wanted.protected,
            os_hidden=wanted.os_hidden,
            disk_format=wanted.disk_format,
            container_format=wanted.container_format,
            min_disk=_bounded("min_disk", wanted.min_disk),
            min_ram=_bounded("min_ram", wanted.min_ram),
            tags=tuple(dict.fromkeys(wanted.tags)),
            properties=dict(wanted.properties),
        )

    def _check_owner(self, context: Context, wanted: NewImage) -> None:
        if wanted.owner not in (None, context.project) and not context.is_admin:
            raise Forbidden(f"You are not permitted to create images owned by '{wanted.owner}'.")

    def _check_limits(self, image: Image) -> None:
        own = sum(not name.startswith(RESERVED_PREFIX) for name in image.properties)
        for what, count, limit in (
            ("properties", own, self._limits.properties),
            ("tags", len(image.tags), self._limits.tags),
        ):
            if 0 <= limit < count:
                raise TooLarge(
                    f"The limit has been exceeded on the number of allowed image {what}."
                    f" Attempted: {count}, Maximum: {limit}"
                )


def _bounded(name: str, value: int) -> int:
    if value < 0:
        raise Invalid(f"Invalid value '{value}' for parameter '{name}': Cannot be a negative value")
    if value > LARGEST_INTEGER:
        raise Invalid(f"'{name}' value out of range, must not exceed {LARGEST_INTEGER}.")
    return value
