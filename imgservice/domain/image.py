"""The image: its fields, its states, and which state may follow which."""

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from enum import StrEnum

import attrs

# Keys for S3 and Swift were once recorded unquoted, with slashes.
_CREDENTIALS = re.compile(r"^((?:s3|swift)[^:/]*://).*@|(?<=://)[^/?#]*@")


class Status(StrEnum):
    QUEUED = "queued"
    SAVING = "saving"
    UPLOADING = "uploading"
    IMPORTING = "importing"
    ACTIVE = "active"
    DEACTIVATED = "deactivated"
    KILLED = "killed"
    PENDING_DELETE = "pending_delete"
    DELETED = "deleted"


TRANSITIONS: Mapping[Status, frozenset[Status]] = {
    Status.QUEUED: frozenset(
        {Status.SAVING, Status.UPLOADING, Status.IMPORTING, Status.ACTIVE, Status.DELETED}
    ),
    Status.SAVING: frozenset({Status.ACTIVE, Status.KILLED, Status.DELETED, Status.QUEUED}),
    Status.UPLOADING: frozenset({Status.IMPORTING, Status.QUEUED, Status.DELETED}),
    Status.IMPORTING: frozenset({Status.ACTIVE, Status.DELETED, Status.QUEUED}),
    Status.ACTIVE: frozenset({Status.PENDING_DELETE, Status.DELETED, Status.DEACTIVATED}),
    Status.KILLED: frozenset({Status.DELETED}),
    Status.PENDING_DELETE: frozenset({Status.DELETED, Status.ACTIVE}),
    Status.DEACTIVATED: frozenset({Status.ACTIVE, Status.DELETED}),
    Status.DELETED: frozenset(),
}


class Visibility(StrEnum):
    PUBLIC = "public"
    PRIVATE = "private"
    SHARED = "shared"
    COMMUNITY = "community"


@attrs.frozen
class Location:
    """One place where the bytes of an image lie."""

    url: str = attrs.field(repr=False)  # older locations carry credentials
    metadata: Mapping[str, object] = attrs.field(factory=dict)
    """Has the store's id under "store"; further keys are kept as they are."""

    @property
    def public_url(self) -> str:
        """The URL without the credentials that it may carry."""
        return _CREDENTIALS.sub(r"\1", self.url, count=1)

    @property
    def store(self) -> str | None:
        """The id of the store; releases before 2019 wrote it under "backend"."""
        name = self.metadata.get("store") or self.metadata.get("backend")
        return str(name) if name else None


@attrs.frozen(slots=False)  # with slots, making one takes twice as long
class Image:
    """An image as the database knows it; times are naive UTC, sizes are bytes."""

    id: str
    status: Status
    created_at: datetime
    updated_at: datetime
    name: str | None = None
    owner: str | None = None
    visibility: Visibility = Visibility.SHARED
    protected: bool = False
    os_hidden: bool = False
    disk_format: str | None = None
    container_format: str | None = None
    min_disk: int = 0
    min_ram: int = 0
    size: int | None = None
    virtual_size: int | None = None
    checksum: str | None = None
    os_hash_algo: str | None = None
    os_hash_value: str | None = None
    tags: tuple[str, ...] = ()
    properties: Mapping[str, str | None] = attrs.field(factory=dict)
    locations: tuple[Location, ...] = ()
    """The active ones, in the order in which they were added."""
    membership: str | None = None
    """The asking project's member status, where the read was told who asks."""


Precondition = Callable[[Image], None]
"""Raises `PreconditionFailed` when the image is not what a change of it expects.

It may be called in any thread, and more than once.
"""


@attrs.frozen
class Content:
    """What is known of an image's data once all of it is stored."""

    size: int
    virtual_size: int | None
    checksum: str | None
    os_hash_algo: str | None
    os_hash_value: str | None
    location: Location
