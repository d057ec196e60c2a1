"""What the services need from the database, the stores, threads and the process."""

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
        """Record a new image; `DuplicateImage` if its id was ever used.

        Here and below: `TooLarge` if the project would exceed its quota.
        """

    async def get(self, image_id: str, project: str | None = None) -> Image:
        """Return the image, with the membership of that project.

        `ImageNotFound` if there is none, or it is deleted.
        """

    async def list(self, query: ImageQuery) -> ImagePage:
        """Return the page, which ends early if it would become too large.

        `Invalid` if its marker is not an image that the caller may list. A deleted image can be a
        marker, unless the list is ordered by a field that deleting changes.
        """

    async def update(
        self,
        image_id: str,
        change: Callable[[Image], Image],
        project: str | None = None,
        job: Job | None = None,
        quota: Quota | None = None,
    ) -> Image:
        """Apply `change` to the image, record the result, and return it.

        This is atomic: nobody else changes the image in between. `change` gets the image with the
        membership of that project. It must be a pure function, since it may be called more
        than once, and in any thread. If it raises, nothing is recorded, and the error is raised
        here. If it returns the same object, nothing is recorded either; otherwise `updated_at` is
        set. If the image loses locations, the job that removes their data is recorded, too.
        `ImageNotFound` if there is no such image.
        """


class UploadRepository(Protocol):
    """The images of the database, while they get their data. Every method is one transaction."""

    async def activate(self, image_id: str, content: Content, quota: Quota | None = None) -> None:
        """Make a queued image active at once, with its content and location.

        `StatusConflict` if it has another status, `ImageNotFound` if it is deleted.
        """

    async def begin_upload(
        self, job: Job, seen: Image | None = None, quota: Quota | None = None
    ) -> None:
        """Set a queued image to saving, and record the job, with the bytes that it reserves.

        `StatusConflict` if it has another status, `ImageNotFound` if it is deleted, `Conflict` if
        its formats, which the data is checked against, are no longer those of `seen`.
        """

    async def reserve(self, job: Job, quota: Quota, needed: int, step: int) -> int:
        """Reserve the `needed` bytes in all for the upload, and up to `step` more in advance.

        Return how many are reserved; `TooLarge` if not even the `needed` ones are left,
        `ImageGone` if the lease is no longer ours.
        """

    async def finish_upload(self, job: Job, content: Content) -> None:
        """Make a saving image active, with its content and location, and end the job.

        `ImageGone` if the image was deleted, or the lease is no longer ours: then nothing is
        recorded, and the job stays as it is.
        """

    async def abandon_upload(self, job: Job) -> None:
        """Set a saving image back to queued, clear its sizes, and end the job.

        It is no error if the image is not saving, or the lease is no longer ours.
        """


class DataRepository(ImageRepository, UploadRepository, Protocol):
    """The images of the database, and how they get their data."""


class RemovalRepository(Protocol):
    """The images of the database, while they lose their data. Every method is one transaction."""

    async def delete(
        self, image_id: str, job: Job, unless: Precondition | None = None
    ) -> Sequence[Location]:
        """Mark the image and all that belongs to it deleted.

        Return the locations that it had; the job is recorded if there are any. `unless` is called
        in the same transaction; if it raises, nothing is recorded.

        `Forbidden` if the image is protected, `ImageNotFound` if it is deleted already.
        """

    async def undelete(self, job: Job, image: Image) -> bool:
        """Undo `delete`, because a store still needs the data, and end the job.

        Here and below: return False and record nothing if the lease is no longer ours.
        """

    async def deleted_locations(self, image_id: str) -> Sequence[Location]:
        """Return the locations that an image had when it was deleted."""

    async def lost_locations(self, image_id: str) -> Sequence[Location]:
        """Return the locations that the image lost, and whose data may still exist."""

    async def forget_locations(self, job: Job) -> None:
        """Record that the data of the lost locations is removed, and end the job."""

    async def restore_locations(self, job: Job) -> bool:
        """Restore lost locations, because a store still needs the data, and end the job."""


class QuotaRepository(Protocol):
    """What projects use."""

    async def usage(self, project: str, resources: Sequence[Resource]) -> Usage:
        """Return how much of each resource the project uses, without running uploads."""


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
    """Knows the limits of projects."""

    async def of(self, project: str) -> Quota:
        """Return the limits of the project; `Unavailable` if they cannot be found out now."""


class MemberRepository(Protocol):
    """The members of images. Every method is one transaction.

    They do not check whether the image may have members, or what the caller may do.
    """

    async def list(self, image_id: str) -> Sequence[Member]:
        """Return the members of an image, the oldest first."""

    async def get(self, image_id: str, project: str) -> Member:
        """Return the member; `MemberNotFound`."""

    async def add(self, image_id: str, project: str, most: int) -> Member:
        """Make the project a member with the status pending, even if it was one before.

        `ImageNotFound`; `TooLarge` if there would be more than `most`, unless that is negative;
        `DuplicateMember`.
        """

    async def set_status(self, image_id: str, project: str, status: MemberStatus) -> Member:
        """Record the decision of the project; `MemberNotFound`."""

    async def remove(self, image_id: str, project: str) -> None:
        """End the membership; `MemberNotFound`."""


class Added(Protocol):
    """What a store returns for a new object."""

    @property
    def url(self) -> str: ...

    @property
    def size(self) -> int: ...

    @property
    def metadata(self) -> Mapping[str, object]: ...


class DataStore(Protocol):
    """The part of a store (`store.interface`) that the services use."""

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
        """Return the store with this id, or the default one, and its id; `Invalid` if unknown."""

    def requested(self, store_id: str | None) -> tuple[str, DataStore]:
        """Return the store for data of a client that names this store or none, and its id."""

    def check_preferred(self, store_ids: Sequence[str]) -> None:
        """Raise `Invalid` unless clients may ask for data from these stores."""

    def check_losing(self, store_id: str) -> None:
        """Raise unless clients may remove copies of data from this store: `NotFound` if they see no
        stores, `Conflict` if it is unknown."""

    def metadata(self, store_id: str) -> Mapping[str, object]:
        """Return what is recorded about the store in the metadata of a location."""

    def holding(self, location: Location) -> tuple[str, DataStore]:
        """Return the store of the location, and its id; `NotConfigured` if this node does not have
        it."""

    def id_of(self, location: Location) -> str | None:
        """Return the id of the store of the location, even if this node does not have it."""

    def taking(self, url: str) -> tuple[str, DataStore] | None:
        """Return the store that serves objects of others at this URL, and its id; or None."""

    def order(
        self, locations: Sequence[Location], preferred: Sequence[str] = ()
    ) -> Sequence[Location]:
        """Return the locations in the order in which to read them, preferred stores first."""


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
        """Tell whether the owner certainly does not run; False if this host cannot know."""
