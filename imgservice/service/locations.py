"""Use cases of locations: where the data of an image is stored."""

from collections.abc import Callable, Mapping, Sequence

import attrs

from imgservice.domain import locations
from imgservice.domain.access import Access
from imgservice.domain.context import Context
from imgservice.domain.errors import Conflict, Forbidden, ImageTooLarge, Invalid, NotFound
from imgservice.domain.image import Content, Image, Location, Status
from imgservice.domain.locations import Checksums, LocationRules, NewLocation, Reached
from imgservice.domain.names import LOCATIONS
from imgservice.domain.patch import Operation
from imgservice.domain.quota import Quota
from imgservice.service.adoption import AdoptionService, Found, Guard
from imgservice.service.events import Events, ImageActivated
from imgservice.service.ports import DataRepository, DataStore, StoreChoice
from imgservice.service.quota import QuotaService

LocationChange = Callable[[Context, Image, Operation], Image]
"""Applies an operation to the locations; a pure function that is called in a transaction."""


@attrs.frozen
class LocationChanges:
    """A function that applies the operations, and the quota that new locations count against."""

    apply: LocationChange
    quota: Quota | None = None


@attrs.frozen
class LocationOptions:
    """The operator's options for locations."""

    show: bool
    """Whether clients see locations, and may change them by patches."""
    secure_hash: bool
    """Whether the data of registered locations is read and hashed."""
    image_size: int


class LocationService:
    def __init__(
        self,
        images: DataRepository,
        adoption: AdoptionService,
        stores: StoreChoice,
        rules: LocationRules,
        options: LocationOptions,
        access: Access,
        quotas: QuotaService,
        events: Events,
    ) -> None:
        self._quotas = quotas
        self._events = events
        self._images = images
        self._adoption = adoption
        self._stores = stores
        self._rules = rules
        self._options = options
        self._access = access

    async def show(self, context: Context, image_id: str) -> Sequence[Location]:
        """Return the locations, which only other services and administrators may see."""
        image = await self._images.get(image_id, context.project)
        self._access.require(context, "fetch_image_location", image)
        return image.locations

    async def add(self, context: Context, image_id: str, wanted: NewLocation, guard: Guard) -> None:
        """Make a queued image active with existing data at a location.

        If data is to be hashed, all of it is read through `guard` first. After a failure the image
        is queued as before, without a location.
        """
        image = await self._images.get(image_id, context.project)
        self._access.require(context, "add_image_location", image)
        if image.status is not Status.QUEUED:
            raise Conflict(f"It's not allowed to add locations if image status is {image.status}.")
        self._check_caller(context, wanted)
        given = locations.read_any_checksums(wanted.checksums, self._rules.algorithm)
        locations.check_formats(image)
        reached, store = await self._reach(wanted)
        location = Location(wanted.url, reached.metadata)
        if self._options.secure_hash:
            found = Found(location, store, reached.size)
            content = await self._adoption.adopt(image, found, given, guard)
        else:
            content = _unread(location, reached.size, given)
            await self._images.activate(image.id, content, await self._quotas.of(image.owner))
        self._events.tell(ImageActivated(context=context, image=image.with_content(content)))

    def _check_caller(self, context: Context, wanted: NewLocation) -> None:
        """Raise `Forbidden` if the caller is no service, and the URL is not one of the web."""
        if "service" in context.roles | context.service_roles:
            return
        is_web = wanted.url.lower().startswith(("http://", "https://"))
        if not is_web or self._stores.taking(wanted.url) is None:
            raise Forbidden("http store must be enabled to use location API by normal user.")

    async def prepare(
        self, context: Context, image_id: str, operations: Sequence[Operation]
    ) -> LocationChanges:
        """Check the locations in the operations, and return a function that applies them."""
        wanted = [operation for operation in operations if operation.name == LOCATIONS]
        if not wanted or not self._options.show:
            return LocationChanges(self._refuse)
        image = await self._images.get(image_id, context.project)
        for operation in wanted:
            self._check_change(context, image, operation)
            self._check_number(image, operation)
        reached = await self._reach_all(image, locations.new_locations(image, wanted))

        def apply(context: Context, image: Image, operation: Operation) -> Image:
            self._check_change(context, image, operation)
            changed = locations.change(image, operation, reached, self._rules)
            for location in changed.locations:
                if location not in image.locations:
                    self._rules.limits.check_metadata(location.metadata)
            return changed

        return LocationChanges(apply, await self._quotas.of(image.owner))

    def _check_number(self, image: Image, operation: Operation) -> None:
        """Raise `TooLarge` for too many locations, before any of them is accessed."""
        limits = self._rules.limits
        if isinstance(operation.value, list) and len(operation.value) > len(image.locations):
            limits.check_locations(operation.value)

    def _check_change(self, context: Context, image: Image, operation: Operation) -> None:
        removes = operation.verb == "remove"
        action = "delete_image_location" if removes else "set_image_location"
        self._access.require(context, action, image)

    def _refuse(self, context: Context, image: Image, operation: Operation) -> Image:
        """Refuse operations on locations if these are not shown."""
        self._check_change(context, image, operation)
        if operation.verb == "replace" and not operation.value:
            raise Forbidden("Cannot set locations to empty list.")
        raise Forbidden(
            f"It's not allowed to {operation.verb} locations if locations are invisible."
        )

    async def _reach_all(
        self, image: Image, wanted: Sequence[NewLocation]
    ) -> Mapping[str, Reached]:
        self._rules.limits.check_locations({each.url for each in wanted})
        if image.status not in (Status.QUEUED, Status.ACTIVE):
            return {}
        return {each.url: (await self._reach(each))[0] for each in wanted}

    async def _reach(self, wanted: NewLocation) -> tuple[Reached, DataStore]:
        """Ask the store that serves the location for the size of the data."""
        found = self._stores.taking(wanted.url)
        if found is None:
            raise Invalid("Invalid location: no store here takes it.")
        store_id, store = found
        try:
            size = await store.size(wanted.url)
        except NotFound:
            raise Invalid("Invalid location: there is no data.") from None
        if size <= 0:
            raise Invalid("Invalid location: there is no data.")
        if size > self._options.image_size:
            raise ImageTooLarge(self._options.image_size)
        return Reached(self._stores.metadata(store_id), size), store


def _unread(location: Location, size: int, given: Checksums) -> Content:
    return Content(
        size=size,
        virtual_size=None,
        checksum=given.checksum,
        os_hash_algo=given.os_hash_algo,
        os_hash_value=given.os_hash_value,
        location=location,
    )
