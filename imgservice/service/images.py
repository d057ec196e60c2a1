"""Use cases of images: create, show, list, change, delete."""

import uuid
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime

import attrs

from imgservice.domain import patch
from imgservice.domain.access import Access
from imgservice.domain.context import Context
from imgservice.domain.errors import Forbidden, NotFound
from imgservice.domain.image import Image, Precondition, Status, Visibility
from imgservice.domain.limits import ImageLimits, bounded
from imgservice.domain.names import LOCATIONS
from imgservice.domain.new_image import NewImage
from imgservice.domain.nodes import Nodes
from imgservice.domain.patch import Operation
from imgservice.domain.protections import PropertyRules
from imgservice.domain.query import ImageQuery
from imgservice.domain.storable import check_storable
from imgservice.service.events import (
    Events,
    ImageActivated,
    ImageCreated,
    ImageDeleted,
    ImageUpdated,
)
from imgservice.service.locations import LocationChange, LocationService
from imgservice.service.ports import ImageRepository
from imgservice.service.quota import QuotaService
from imgservice.service.removal import RemovalService

Requirement = Callable[[Context, str, Image], None]
"""Raises when the caller may not do this to the image."""
HandOver = Callable[[str], Awaitable[bool]]
"""Forwards the request to the node with this URL, on behalf of the caller.

It tells whether that node has executed it, and raises the error if the node refused.
"""
Change = Callable[[Image], Image]
"""Returns the changed image, or the same object if nothing changes; raises to refuse."""


@attrs.frozen
class Page:
    """A part of a list."""

    images: Sequence[Image] = ()
    """Those that the caller may see."""
    last: str | None = None
    """The id after which the next page begins; None when there is none."""


class _Noted:
    """A change that records its effect. It may be called more than once, and in any thread."""

    def __init__(self, change: Change) -> None:
        self._change = change
        self.is_change = False
        self.is_activation = False

    def __call__(self, image: Image) -> Image:
        changed = self._change(image)
        self.is_change = changed is not image
        self.is_activation = (image.status, changed.status) == (Status.QUEUED, Status.ACTIVE)
        return changed


class ImageService:
    def __init__(
        self,
        images: ImageRepository,
        removal: RemovalService,
        limits: ImageLimits,
        locations: LocationService,
        access: Access,
        quotas: QuotaService,
        property_rules: Callable[[], PropertyRules],
        nodes: Nodes,
        events: Events,
    ) -> None:
        self._nodes = nodes
        self._events = events
        self._images = images
        self._quotas = quotas
        self._removal = removal
        self._limits = limits
        self._locations = locations
        self._access = access
        self._property_rules = property_rules

    async def create(self, context: Context, wanted: NewImage) -> Image:
        """Record a new, empty image."""
        image = self._new(context, wanted)
        self._require_add(context, image)
        self._check_visibility(context, image, image.visibility, self._access.require_new)
        self._limits.check_properties(image.properties)
        self._property_rules().check_new(context, image.properties)
        self._limits.check_values(image.properties, {})
        self._limits.check_tags(image.tags)
        await self._images.add(image, await self._quotas.of(image.owner))
        self._events.tell(ImageCreated(context=context, image=image))
        return image

    async def show(self, context: Context, image_id: str) -> Image:
        image = await self._images.get(image_id, context.project)
        self._access.require_visible(context, image)
        return image

    async def list(self, context: Context, query: ImageQuery) -> Page:
        self._access.require_general(context, "get_images")
        if query.limit == 0:
            return Page()
        rules = self._property_rules()
        if not all(rules.may(context, "read", name) for name, _ in query.properties):
            return Page()  # the caller must not find out by filters what they may not read
        found = await self._images.list(query)
        seen = self._access.visible(context, "get_images", found.images)
        if found.last is None:
            return Page(seen)
        return Page(seen, seen[-1].id if seen else found.last)

    async def update(
        self,
        context: Context,
        image_id: str,
        operations: Sequence[Operation],
        unless: Precondition | None = None,
    ) -> Image:
        """Apply all of the operations, or none, and return the changed image.

        `unless` is called with the image before it is changed, in the same transaction, and raises
        to refuse. It may be called more than once, and in any thread.
        """
        located = await self._locations.prepare(context, image_id, operations)
        rules = self._property_rules()

        def change(image: Image) -> Image:
            if not self._access.may(context, "modify_image", image):
                self._access.require_visible(context, image)
            if unless is not None:
                unless(image)
            return self._patched(context, image, operations, located.apply, rules)

        noted = _Noted(change)
        with self._removal.losing_locations(image_id) as job:
            project, quota = context.project, located.quota
            changed = await self._images.update(image_id, noted, project, job, quota)
            if any(each.name == LOCATIONS and each.verb == "remove" for each in operations):
                await self._removal.remove_lost(job)
        self._tell(context, noted, changed)
        return changed

    async def add_tag(self, context: Context, image_id: str, tag: str) -> None:
        """Add a tag to the image; nothing changes if it is there already."""
        check_storable("tags", (tag,))

        def change(image: Image) -> Image:
            self._access.require(context, "modify_image", image)
            if tag in image.tags:
                return image
            tagged = attrs.evolve(image, tags=(*image.tags, tag))
            self._limits.check_tags(tagged.tags)
            return tagged

        await self._change(context, image_id, change)

    async def remove_tag(self, context: Context, image_id: str, tag: str) -> None:
        """Remove a tag from the image; `NotFound` if it is not there."""

        def change(image: Image) -> Image:
            self._access.require(context, "modify_image", image)
            if tag not in image.tags:
                raise NotFound("The resource could not be found.")
            return attrs.evolve(image, tags=tuple(each for each in image.tags if each != tag))

        await self._change(context, image_id, change)

    async def deactivate(self, context: Context, image_id: str) -> None:
        """Forbid everybody but administrators to download the data."""
        await self._switch(context, image_id, "deactivate", Status.ACTIVE, Status.DEACTIVATED)

    async def reactivate(self, context: Context, image_id: str) -> None:
        """Allow downloads again."""
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

        await self._change(context, image_id, change)

    async def delete(
        self,
        context: Context,
        image_id: str,
        unless: Precondition | None = None,
        hand_over: HandOver | None = None,
    ) -> None:
        """Delete the image and its data, unless it is protected, or a store still needs the data.

        `unless` as in `update`. If another node works on the image, the request is forwarded to it,
        since only that node can stop the work. If `hand_over` is None or fails, this node deletes
        the image.
        """
        image = await self._images.get(image_id, context.project)
        self._access.require(context, "delete_image", image)
        node = self._nodes.at_work(image)
        if node is not None and hand_over is not None:
            if unless is not None:
                unless(image)
            if await hand_over(node):
                return
            image = await self._images.get(image_id, context.project)
        await self._removal.delete(image, unless)
        self._events.tell(ImageDeleted(context=context, image=image))

    async def _change(self, context: Context, image_id: str, change: Change) -> None:
        noted = _Noted(change)
        changed = await self._images.update(image_id, noted, context.project)
        self._tell(context, noted, changed)

    def _tell(self, context: Context, noted: "_Noted", changed: Image) -> None:
        if noted.is_activation:
            self._events.tell(ImageActivated(context=context, image=changed))
        elif noted.is_change:
            self._events.tell(ImageUpdated(context=context, image=changed))

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

    def _require_add(self, context: Context, image: Image) -> None:
        try:
            self._access.require_new(context, "add_image", image)
        except Forbidden:
            if image.owner == context.project:
                raise
            raise Forbidden(
                f"You are not permitted to create images owned by '{image.owner}'."
            ) from None

    def _patched(
        self,
        context: Context,
        image: Image,
        operations: Sequence[Operation],
        change_locations: LocationChange,
        rules: PropertyRules,
    ) -> Image:
        changed = patch.begin(image) if operations else image
        for operation in operations:
            changed = self._apply(context, changed, operation, change_locations, rules)
        if changed.properties.keys() - image.properties.keys():
            self._limits.check_properties(changed.properties)
        self._limits.check_values(changed.properties, image.properties)
        return changed

    def _apply(
        self,
        context: Context,
        image: Image,
        operation: Operation,
        change_locations: LocationChange,
        rules: PropertyRules,
    ) -> Image:
        if operation.name == LOCATIONS:
            return change_locations(context, image, operation)
        if operation.name == "owner" and not context.is_admin:
            raise Forbidden("Owner can't be updated by non admin.")
        if operation.name == "visibility" and operation.verb != "remove":
            wanted = Visibility(operation.value)
            self._check_visibility(context, image, wanted, self._access.require)
        self._access.require(context, "modify_image", image)
        changed = rules.apply(context, image, operation)
        if operation.name == "tags":
            self._limits.check_tags(changed.tags)
        return changed

    def _check_visibility(
        self, context: Context, image: Image, wanted: Visibility, require: Requirement
    ) -> None:
        if wanted is Visibility.PUBLIC:
            require(context, "publicize_image", image)
        elif wanted is Visibility.COMMUNITY:
            require(context, "communitize_image", image)


def _owner(context: Context, wanted: NewImage) -> str | None:
    if wanted.ownerless:
        return None
    return context.project if wanted.owner is None else wanted.owner
