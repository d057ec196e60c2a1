"""Use cases around an image's bytes: upload, removal, and recovery after a crash."""

import uuid
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import contextmanager, suppress

import attrs

from imgservice.domain.access import Access
from imgservice.domain.context import Context
from imgservice.domain.errors import (
    Conflict,
    Forbidden,
    ImageGone,
    ImageServiceError,
    ImageTooLarge,
    Invalid,
    NotFound,
    Unavailable,
    UnsupportedContent,
)
from imgservice.domain.formats import FormatCheck, FormatRules
from imgservice.domain.image import Content, Image, Location, Precondition, Status
from imgservice.domain.locations import Checksums, check_formats, check_readable
from imgservice.domain.names import HASH_HOST
from imgservice.domain.quota import Quota
from imgservice.service.expiry import LeaseExpiry
from imgservice.service.ports import (
    DataStore,
    ImageRepository,
    Lease,
    LeaseOwner,
    StoreChoice,
    StreamDigests,
)
from imgservice.service.quota import Allowance, QuotaService, reservation

SMALLEST_WINDOW = 64 << 10
"""What each of any number of uploads has at least."""
LEASE_TIME = 60.0
"""Seconds for which a lease lives without being renewed, as those see it who watch it."""


@attrs.frozen
class Upload:
    """Data that a client offers."""

    open: Callable[[Callable[[], int]], AsyncIterator[bytes]]
    """Starts the stream; it asks now and then how many of its bytes may wait in memory."""
    size: int | None = None
    """What the client says it will be, None when it does not."""
    store: str | None = None
    """The id of the store that it wants."""


Guard = Callable[[AsyncGenerator[bytes, None]], AsyncIterator[bytes]]
"""Passes a stream on as long as somebody wants it, and raises after that."""


@attrs.define
class _Running:
    """An upload under way in this process."""

    lease: Lease
    allowance: Allowance
    deleted: bool = False


@attrs.frozen
class DataRules:
    """What the operator allows, and how much memory uploads may take."""

    image_size: int
    formats: FormatRules
    window: int
    memory: int


class DataService:
    """Moves bytes between clients and stores, and keeps the record true whatever happens.

    An upload holds a lease from before its first byte until its image is active or queued again.
    The lease of a process that died tells the next one what to clean up.
    """

    def __init__(
        self,
        images: ImageRepository,
        stores: StoreChoice,
        holder: LeaseOwner,
        rules: DataRules,
        digests: Callable[[Callable[[], int], str | None], StreamDigests],
        access: Access,
        quotas: QuotaService,
        warn: Callable[[str], None],
        node: str | None = None,
        expiry: LeaseExpiry | None = None,
    ) -> None:
        """`digests` makes what hashes a stream, in a window that tells its size at any time, with
        an algorithm, None for the configured one. `warn` writes a line to the log. `node` is the
        URL of this node, None when others cannot reach it."""
        self._warn = warn
        self._node = node
        self._quotas = quotas
        self._images = images
        self._stores = stores
        self._holder = holder
        self._rules = rules
        self._digests = digests
        self._access = access
        self._expiry = expiry or LeaseExpiry(LEASE_TIME)
        self._running: dict[str, _Running] = {}
        self._deleting: set[str] = set()
        self._postponed: dict[str, str] = {}
        """What was said of cleanups that failed, by lease."""

    # -- in ---------------------------------------------------------------------------------------

    async def upload(self, context: Context, image_id: str, upload: Upload) -> None:
        """Store the data and make the image active; on any failure it is queued as before."""
        image = await self._images.get(image_id, context.project)
        self._access.require(context, "upload_image", image)
        store_id, store = self._stores.requested(upload.store)
        self._check_ready(image, upload)
        quota = await self._quotas.of(image.owner)
        lease = self._charged("upload", image.id, store_id, quota, upload.size)
        running = self._running[lease.id] = self._run(lease, quota)
        try:
            await self._images.begin_upload(lease, image, quota)
            await self._receive(image, upload, running, store, self._stores.metadata(store_id))
        finally:
            del self._running[lease.id]

    def _check_ready(self, image: Image, upload: Upload) -> None:
        if image.status is not Status.QUEUED:
            raise Conflict(f"Image status transition from {image.status} to saving is not allowed")
        check_formats(image)
        self._check_size(upload.size or 0)

    def _check_size(self, size: int) -> None:
        if size > self._rules.image_size:
            raise ImageTooLarge(self._rules.image_size)

    def _window(self) -> int:
        """Return how much of one upload may wait: the memory is shared by those that run.

        Half of it waits before the format is checked, and half behind that. A third of each share
        is left for the blocks between the two.
        """
        share = self._rules.memory // max(1, len(self._running))
        return max(SMALLEST_WINDOW, min(self._rules.window, share * 2 // 3))

    async def _receive(
        self,
        image: Image,
        upload: Upload,
        running: _Running,
        store: DataStore,
        metadata: Mapping[str, object],
    ) -> None:
        intake = self._intake(image, upload, running, self._rules)
        try:
            added = await store.add(image.id, intake.blocks(), upload.size)
        except BaseException:
            await self._give_up(running.lease, intake)
            raise
        try:
            content = intake.content(Location(added.url, {**metadata, **added.metadata}))
            await self._finish(running.lease, image, content)
        except BaseException:
            await self._withdraw(running.lease, store, added.url)
            raise

    def _intake(
        self,
        image: Image,
        upload: Upload,
        running: _Running,
        rules: DataRules,
        algorithm: str | None = None,
    ) -> "_Intake":
        digests = self._digests(lambda: self._window() // 2, algorithm)
        return _Intake(image, upload, running, rules, digests, lambda: self._window() // 2)

    async def _finish(self, lease: Lease, image: Image, content: Content) -> None:
        await self._images.finish_upload(lease, content)
        if content.detected_format is not None:
            self._warn(
                f"Image {image.id}: its disk_format is {image.disk_format}, but its data is"
                f" {content.detected_format}"
            )

    async def _give_up(self, lease: Lease, intake: "_Intake") -> None:
        """Let the image be queued again; there is no data of ours."""
        await intake.abandon()
        with self._left_to_recovery(lease):
            await self._images.abandon_upload(lease)

    async def _withdraw(self, lease: Lease, store: DataStore, url: str) -> None:
        """Remove data that could not be recorded, and let the image be queued again.

        Without the lease nothing is touched. Either the record was made after all, and only the
        answer to it was lost; or another node, for which we seemed dead, has cleaned up, and what
        now has the name of our data may be the data of a later upload.
        """
        with self._left_to_recovery(lease):
            if await self._images.take_lease(lease, self._holder.id, LEASE_TIME):
                with suppress(NotFound):
                    await store.delete(url)
                await self._images.abandon_upload(lease)

    @contextmanager
    def _left_to_recovery(self, lease: Lease) -> Iterator[None]:
        """Leave a cleanup that fails to `recover`, which finds the lease again.

        So the client is told what went wrong first.
        """
        try:
            yield
        except Exception as error:
            self._postpone(lease, error)

    def _postpone(self, lease: Lease, error: Exception) -> None:
        """Say, once, that the cleanup is left to a later recovery."""
        text = _postponed(lease, error)
        if self._postponed.get(lease.id) != text:
            self._postponed[lease.id] = text
            self._warn(text)

    async def adopt(
        self,
        image: Image,
        location: Location,
        store: DataStore,
        size: int,
        expected: Checksums,
        guard: Guard,
    ) -> None:
        """Read what somebody else has put at the location, and make the image active with it.

        On any failure the image is queued as before; the data is never touched. `guard` gets the
        stream, and may end it.
        """
        quota = await self._quotas.of(image.owner)
        lease = self._charged("location", image.id, location.store, quota, size)
        running = self._running[lease.id] = self._run(lease, quota)
        try:
            await self._images.begin_upload(lease, image, quota)
            # One byte more shows that there is more, without reading however much that is.
            source = Upload(lambda _: guard(store.read(location.url, 0, size + 1)), size)
            await self._read(image, running, source, location, expected)
        finally:
            del self._running[lease.id]

    async def _read(
        self,
        image: Image,
        running: _Running,
        source: Upload,
        location: Location,
        expected: Checksums,
    ) -> None:
        formats = attrs.evolve(self._rules.formats, accept_others=True)
        rules = attrs.evolve(self._rules, formats=formats)
        intake = self._intake(image, source, running, rules, expected.os_hash_algo)
        try:
            try:
                if self._node is not None:
                    await self._note_reader(image.id, self._node)
                async for _ in intake.blocks():
                    pass  # the intake looks at it; nobody here wants the bytes
            finally:
                if self._node is not None:
                    await self._note_reader(image.id, None)
            content = intake.content(location)
            expected.compare(content)
            await self._finish(running.lease, image, content)
        except UnsupportedContent as error:
            await self._give_up(running.lease, intake)
            raise Invalid(f"The data at the location is refused: {error.message}") from None
        except BaseException:
            await self._give_up(running.lease, intake)
            raise

    async def _note_reader(self, image_id: str, node: str | None) -> None:
        """Tell other nodes where the image's data is being read: to be stopped when they delete it.

        Without the note, too, everything ends well, but only after the last byte.
        """

        def change(image: Image) -> Image:
            if image.properties.get(HASH_HOST) == node:
                return image
            rest = {name: value for name, value in image.properties.items() if name != HASH_HOST}
            note = {} if node is None else {HASH_HOST: node}
            return attrs.evolve(image, properties={**rest, **note})

        with suppress(NotFound, Unavailable):
            await self._images.update(image_id, change)

    # -- away -------------------------------------------------------------------------------------

    async def delete(self, image: Image, unless: Precondition | None = None) -> None:
        """Delete the image and its data; take it back when a store still needs the data.

        What lies in a store that is not configured here waits for a node that has it. Nobody but
        Glance knows where data lies whose location is encrypted: `Conflict`.
        """
        check_readable(image)
        lease = self._lease("delete", image.id)
        self._deleting.add(lease.id)
        try:
            await self._delete(image, lease, unless)
        finally:
            self._deleting.remove(lease.id)

    async def _delete(self, image: Image, lease: Lease, unless: Precondition | None) -> None:
        locations = await self._images.delete(image.id, lease, unless)
        for running in self._running.values():
            if running.lease.image_id == image.id:
                running.deleted = True
        if locations and await self._is_removed(
            self._remove(locations), lambda: self._images.undelete(lease, image)
        ):
            await self._images.end_lease(lease)

    def removal(self, image_id: str) -> Lease:
        """Return a lease, to be recorded with the loss of locations, for `remove_lost`."""
        return self._lease("remove", image_id)

    async def remove_lost(self, lease: Lease) -> None:
        """Remove the data of the locations that the image lost.

        They come back when their store still needs the data: `Conflict`.
        """
        if await self._is_removed(
            self._remove_lost(lease), lambda: self._images.restore_locations(lease)
        ):
            await self._images.forget_locations(lease)

    async def _is_removed(
        self, removal: Awaitable[None], take_back: Callable[[], Awaitable[None]]
    ) -> bool:
        """Tell whether the data went; when a store still needs it, take its loss back and raise."""
        try:
            await removal
        except Conflict:
            await take_back()
            raise
        except ImageServiceError:
            return False  # gone for clients; the lease remains, and `recover` tries again
        return True

    async def _remove_lost(self, lease: Lease) -> None:
        await self._remove(await self._images.lost_locations(lease.image_id))

    async def _remove(self, locations: Sequence[Location]) -> None:
        for location in locations:
            with suppress(NotFound, Forbidden):  # what is only read here is not ours to remove
                await self._stores.holding(location).delete(location.url)

    def _charged(
        self, kind: str, image_id: str, store: str | None, quota: Quota | None, size: int | None
    ) -> Lease:
        """Return a lease that reserves bytes of the quota."""
        lease = self._lease(kind, image_id, store)
        reserved = reservation(quota, size)
        if quota is None or reserved is None:
            return lease
        return attrs.evolve(lease, project=quota.project, reserved=reserved)

    def _run(self, lease: Lease, quota: Quota | None) -> _Running:
        return _Running(lease, Allowance(self._images, lease, quota))

    def _lease(self, kind: str, image_id: str, store: str | None = None) -> Lease:
        return Lease(str(uuid.uuid4()), kind, image_id, self._holder.id, store)

    # -- after a crash ----------------------------------------------------------------------------

    async def renew(self) -> None:
        """Keep our leases alive; to be called several times in `LEASE_TIME`."""
        if self._running:
            await self._images.renew_leases(self._holder.id, LEASE_TIME)

    async def recover(self) -> int:
        """Clean up behind processes that died; return how many leases were settled."""
        settled = 0
        for lease in await self._abandoned():
            if await self._images.take_lease(lease, self._holder.id, LEASE_TIME):
                settled += await self._settle(attrs.evolve(lease, holder=self._holder.id))
        return settled

    async def _abandoned(self) -> Sequence[Lease]:
        asked_at = self._expiry.clock()
        try:
            found = await self._images.leases()
        except Unavailable:
            self._expiry.forget()
            raise
        known = {one.id for one, _ in found}
        self._postponed = {key: said for key, said in self._postponed.items() if key in known}
        # We renew all of our own together: that says nothing of any one of them.
        marked = [(one, None if one.holder == self._holder.id else mark) for one, mark in found]
        expired = self._expiry.expired(marked, asked_at)
        return [one for one, _ in found if self._is_abandoned(one, one.id in expired)]

    def _is_abandoned(self, lease: Lease, expired: bool) -> bool:
        if lease.holder != self._holder.id:
            return expired or self._holder.is_dead(lease.holder)
        if lease.kind == "remove":
            return expired
        # What does not run has failed together with the database, or nobody knows whether it has.
        return lease.id not in self._running and lease.id not in self._deleting

    async def _settle(self, lease: Lease) -> bool:
        actions: dict[str, Callable[[Lease], Awaitable[None]]] = {
            "upload": self._settle_upload,
            "location": self._settle_reading,
            "delete": self._settle_delete,
            "remove": self._settle_remove,
        }
        try:
            await actions[lease.kind](lease)
        except ImageServiceError:
            return False  # a store that cannot be reached now; next time, perhaps
        except Exception as error:  # the other leases are not to wait for this one
            self._postpone(lease, error)
            return False
        if self._postponed.pop(lease.id, None) is not None:
            self._warn(f"Image {lease.image_id}: cleanup after its {lease.kind} done")
        return True

    async def _settle_upload(self, lease: Lease) -> None:
        _, store = self._stores.chosen(lease.store)
        await store.discard(lease.image_id)
        await self._images.abandon_upload(lease)

    async def _settle_remove(self, lease: Lease) -> None:
        await self._remove_lost(lease)
        await self._images.forget_locations(lease)

    async def _settle_reading(self, lease: Lease) -> None:
        await self._note_reader(lease.image_id, None)
        await self._images.abandon_upload(lease)

    async def _settle_delete(self, lease: Lease) -> None:
        await self._remove(await self._images.deleted_locations(lease.image_id))
        await self._images.end_lease(lease)


def _postponed(lease: Lease, error: Exception) -> str:
    # The text of a database's own error may hold a location with credentials.
    reason = error.message if isinstance(error, ImageServiceError) else type(error).__name__
    return f"Image {lease.image_id}: cleanup after its {lease.kind} postponed: {reason}"


class _Intake:
    """The stream of one upload on its way to the store, with all that is learned from it.

    What is wrong with the data is raised inside the stream, before its end: so a store never
    completes an object that would have to be taken away again.
    """

    def __init__(
        self,
        image: Image,
        upload: Upload,
        running: _Running,
        rules: DataRules,
        digests: StreamDigests,
        window: Callable[[], int],
    ) -> None:
        self._image = image
        self._upload = upload
        self._running = running
        self._limit = rules.image_size
        self._digests = digests
        self._window = window
        assert image.disk_format is not None and image.container_format is not None  # noqa: S101
        self._format = FormatCheck(image.disk_format, image.container_format, rules.formats)
        self._size = 0
        self._checksums = ("", "")
        self._virtual_size: int | None = None

    async def blocks(self) -> AsyncIterator[bytes]:
        async for block in self._upload.open(self._window):
            self._size += len(block)
            self._check()
            await self._running.allowance.cover(self._size)
            self._format.feed(block)
            await self._digests.update(block)
            yield block
        await self._end()

    def _check(self) -> None:
        if self._running.deleted:
            raise ImageGone(self._image.id)
        if self._size > self._limit:
            raise ImageTooLarge(self._limit)

    async def _end(self) -> None:
        expected = self._upload.size
        if expected is not None and expected != self._size:
            word = "exceeds" if self._size > expected else "mismatch"
            raise Invalid(f"Size {word}: expected {expected} bytes, got {self._size} bytes")
        self._virtual_size = self._format.finish()
        self._checksums = await self._digests.finish()

    def content(self, location: Location) -> Content:
        checksum, hash_value = self._checksums
        return Content(
            size=self._size,
            virtual_size=self._virtual_size or None,
            checksum=checksum,
            os_hash_algo=self._digests.algorithm,
            os_hash_value=hash_value,
            location=location,
            detected_format=self._format.detected,
        )

    async def abandon(self) -> None:
        await self._digests.abandon()
