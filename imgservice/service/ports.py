"""What the services need from the outside world; `db`, `store` and `threads` fulfil it."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence, Set
from typing import Protocol

from imgservice.domain.image import Content, Image, Location, Precondition
from imgservice.domain.job import Job, LeaseHolding
from imgservice.domain.member import Member, MemberStatus
from imgservice.domain.query import ImagePage, ImageQuery
from imgservice.domain.quota import Quota, Resource, Usage


class ImageRepository(Protocol):
    """The images of the database. Every method is one transaction."""

    async def add(self, image: Image, quota: Quota | None = None) -> None:
        """Record a new image; `DuplicateImage` when its id was ever used.

        Here and below: `TooLarge` when the project of the quota would have more than it may.
        """

    async def get(self, image_id: str, asking: str | None = None) -> Image:
        """Return the image, with the membership of the project `asking` filled in.

        `ImageNotFound` when there is none or it is deleted.
        """

    async def list(self, query: ImageQuery) -> ImagePage:
        """Return the page, which ends early when it would become too long.

        `Invalid` when its marker is not an image that the caller may list.
        A deleted image is still a marker, unless the order is by what deleting changes.
        """

    async def update(
        self,
        image_id: str,
        change: Callable[[Image], Image],
        asking: str | None = None,
        job: Job | None = None,
        quota: Quota | None = None,
    ) -> Image:
        """Record what `change` makes of the image, and return it as it then is.

        Nobody else changes the image between the reading and the end. `change` gets the image with
        the membership of the project `asking`. It is a pure function, since it may be called more
        than once and in any thread; what it raises is raised here, and nothing is recorded. When it
        returns the very image that it got, nothing is either; otherwise `updated_at` moves.
        When the image loses locations, the job that removes their data is recorded as well.
        `ImageNotFound` when there is no such image.
        """


class UploadRepository(Protocol):
    """The images of the database, while they get their data. Every method is one transaction."""

    async def activate(self, image_id: str, content: Content, quota: Quota | None = None) -> None:
        """Turn a queued image to active at once, with its content and location.

        `StatusConflict` when it is in any other state, `ImageNotFound` when it is gone.
        """

    async def begin_upload(
        self, job: Job, seen: Image | None = None, quota: Quota | None = None
    ) -> None:
        """Turn a queued image to saving and record the job, with what it reserves.

        `StatusConflict` when it is in any other state, `ImageNotFound` when it is gone, `Conflict`
        when its formats, on which the check of the data relies, are not those that were `seen`.
        """

    async def reserve(self, job: Job, quota: Quota, needed: int, step: int) -> int:
        """Let the upload take the `needed` bytes in all, and up to `step` more in advance.

        Return how many; `TooLarge` when not even so many are left, `ImageGone` when the lease is
        no longer ours.
        """

    async def finish_upload(self, job: Job, content: Content) -> None:
        """Turn a saving image to active, with its content and location, and end the job.

        `ImageGone` when the image was deleted, or the lease is no longer ours: nothing is recorded
        then, and the job stays as it is.
        """

    async def abandon_upload(self, job: Job) -> None:
        """Turn a saving image back to queued, clear its sizes, and end the job.

        No error when there is nothing to turn back, or the lease is no longer ours.
        """


class DataRepository(ImageRepository, UploadRepository, Protocol):
    """The images of the database, and how they get their data."""


class RemovalRepository(Protocol):
    """The images of the database, while they lose their data. Every method is one transaction."""

    async def delete(
        self, image_id: str, job: Job, unless: Precondition | None = None
    ) -> Sequence[Location]:
        """Mark the image and all that belongs to it deleted.

        Return the locations that it had; the job is recorded when there are any. What `unless`
        raises is raised, and nothing is recorded; nobody else changes the image between its look
        and the end.

        `Forbidden` when it is protected, `ImageNotFound` when somebody was faster.
        """

    async def undelete(self, job: Job, image: Image) -> bool:
        """Take a `delete` back, because a store still needs the data; end the job.

        Here and below: False, and nothing is recorded, when the lease is no longer ours.
        """

    async def deleted_locations(self, image_id: str) -> Sequence[Location]:
        """Return the locations that a deleted image had at its deletion."""

    async def lost_locations(self, image_id: str) -> Sequence[Location]:
        """Return the locations that the image lost, and whose data may still be there."""

    async def forget_locations(self, job: Job) -> None:
        """Note that the data of the lost locations is removed, and end the job."""

    async def restore_locations(self, job: Job) -> bool:
        """Give lost locations back, because a store still needs the data; end the job."""


class QuotaRepository(Protocol):
    """What projects have."""

    async def usage(self, project: str, resources: Sequence[Resource]) -> Usage:
        """Return how much of each the project has, running uploads aside."""


class JobRepository(Protocol):
    """The jobs of the database, and the leases on them. Every method is one transaction.

    Jobs that begin with a change of an image are recorded together with that.
    """

    async def add(self, job: Job) -> None:
        """Record a job."""

    async def holdings(self) -> Sequence[LeaseHolding]:
        """Return every owner of leases, `NOBODY` among them when jobs wait for an owner."""

    async def owned(
        self, owner: str, kinds: Sequence[str], most: int
    ) -> Sequence[tuple[Job, object]]:
        """Return jobs of these kinds of an owner, the oldest first.

        Each has a mark, which is another one after each renewal.
        """

    async def due(self, kinds: Sequence[str], most: int) -> Sequence[Job]:
        """Return jobs of these kinds that have no owner, and whose time has come."""

    async def claim(self, job: Job, owner: str) -> Job | None:
        """Take the lease for one more attempt; None unless it is still its owner's."""

    async def confirm(self, job: Job) -> bool:
        """Renew this one lease; tell whether it is still its owner's."""

    async def release(self, job: Job, pause: float) -> bool:
        """Let any process claim the job in so many seconds, and record its attempts and error."""

    async def end(self, job: Job) -> bool:
        """Forget the job; False when the lease is no longer its owner's."""

    async def renew(self, owner: str) -> Set[str]:
        """Renew all leases of the owner; return the ids of its jobs that are cancelled."""

    async def cancel(self, image_id: str, by: Job) -> None:
        """Let the processes that work on the image stop; all but the job `by` are cancelled."""


class LimitSource(Protocol):
    """Knows how much each project may have."""

    async def of(self, project: str) -> Quota:
        """Return the project's limits; `Unavailable` when they cannot be found out now."""


class MemberRepository(Protocol):
    """The members of images. Every method is one transaction.

    Whether the image may have members, and who may ask, is not looked at here.
    """

    async def list(self, image_id: str) -> Sequence[Member]:
        """Return them, the oldest first."""

    async def get(self, image_id: str, project: str) -> Member:
        """Return the member; `MemberNotFound` when the project is none."""

    async def add(self, image_id: str, project: str, most: int) -> Member:
        """Make the project a member, pending as if it had never been one.

        `ImageNotFound`; `TooLarge` when there would be more than `most`, unless that is negative;
        `DuplicateMember`.
        """

    async def set_status(self, image_id: str, project: str, status: MemberStatus) -> Member:
        """Record what the project thinks of it; `MemberNotFound`."""

    async def remove(self, image_id: str, project: str) -> None:
        """End the membership; `MemberNotFound`."""


class Added(Protocol):
    """What a store tells of a new object."""

    @property
    def url(self) -> str: ...

    @property
    def size(self) -> int: ...

    @property
    def metadata(self) -> Mapping[str, object]: ...


class DataStore(Protocol):
    """A store, as `store.interface` defines it, in the part that the services use."""

    async def add(self, image_id: str, data: AsyncIterator[bytes], size: int | None) -> Added: ...

    def read(
        self, url: str, start: int = 0, length: int | None = None
    ) -> AsyncGenerator[bytes, None]: ...

    async def delete(self, url: str) -> None: ...

    async def size(self, url: str) -> int: ...

    async def discard(self, image_id: str) -> None: ...


class StoreChoice(Protocol):
    """The configured stores."""

    def chosen(self, store_id: str | None) -> tuple[str, DataStore]:
        """Return the store of that id, or the default one; `Invalid` when there is none."""

    def requested(self, store_id: str | None) -> tuple[str, DataStore]:
        """Return the store for the data of a client that names this one; `Invalid`."""

    def check_preferred(self, store_ids: Sequence[str]) -> None:
        """Raise `Invalid` unless clients may ask for data from these stores."""

    def metadata(self, store_id: str) -> Mapping[str, object]:
        """Return what a location records of its store."""

    def holding(self, location: Location) -> DataStore:
        """Return the store of the location; `NotConfigured` when this node does not have it."""

    def taking(self, url: str) -> tuple[str, DataStore] | None:
        """Return the store that serves what others put at this URL; None when there is none."""

    def order(
        self, locations: Sequence[Location], preferred: Sequence[str] = ()
    ) -> Sequence[Location]:
        """Return the locations, those to be read first in front.

        These are the ones in the preferred stores, if any.
        """


class StreamDigests(Protocol):
    """Checksums of a stream."""

    algorithm: str

    async def update(self, block: bytes) -> None: ...

    async def finish(self) -> tuple[str, str]: ...

    async def abandon(self) -> None: ...


class LeaseOwner(Protocol):
    """This process, as an owner of leases."""

    @property
    def id(self) -> str: ...

    def is_dead(self, owner: str) -> bool:
        """Tell whether that owner certainly runs no more; False when nobody here can know."""
