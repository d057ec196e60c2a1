"""Images: their fields, their states, and the transitions between states."""

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from enum import StrEnum
from typing import ClassVar

import attrs

from imgservice.domain.errors import ImageNotFound
from imgservice.domain.location_urls import is_encrypted, public_url
from imgservice.domain.names import DETECTED_FORMAT


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


OLD_STORE = "backend"
"""Where releases of Glance before 2019 recorded the id of a location's store."""


@attrs.frozen
class Location:
    """A place where the data of an image is stored."""

    url: str = attrs.field(repr=False)  # older locations carry credentials
    metadata: Mapping[str, object] = attrs.field(factory=dict)
    """Contains the id of the store as "store"; other keys are kept as they are."""
    row: int | None = attrs.field(default=None, eq=False, repr=False)
    """Its id in the database; other nodes may have changed the URL meanwhile."""

    @property
    def public_url(self) -> str:
        """The URL without the credentials that it may carry."""
        return public_url(self.url)

    @property
    def is_encrypted(self) -> bool:
        """Whether the URL is encrypted, so that only nodes of Glance with the key can use it."""
        return is_encrypted(self.url)

    @property
    def store(self) -> str | None:
        """The id of the store, if it is recorded."""
        name = self.metadata.get("store") or self.metadata.get(OLD_STORE)
        return str(name) if name else None


@attrs.frozen(slots=False)  # with slots, making one takes twice as long
class Image:
    """An image as it is recorded; times are naive UTC, sizes are bytes."""

    show_rule: ClassVar[str] = "get_image"
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
    """Those that are active, in the order in which they were added."""
    membership: str | None = None
    """The member status of the caller's project, where the read was told the caller."""

    @property
    def fields(self) -> Mapping[str, object]:
        """What rules may look at, by their names for it; custom properties have their own."""
        return _Fields(self)

    def not_found(self) -> ImageNotFound:
        return ImageNotFound(self.id)

    def with_content(self, content: "Content") -> "Image":
        """Return the image as it becomes when its data is complete."""
        detected = content.detected_format
        note = {} if detected is None else {DETECTED_FORMAT: detected}
        return attrs.evolve(
            self,
            status=Status.ACTIVE,
            size=content.size,
            virtual_size=content.virtual_size,
            checksum=content.checksum,
            os_hash_algo=content.os_hash_algo,
            os_hash_value=content.os_hash_value,
            properties={**self.properties, **note},
            locations=(content.location,),
        )


_FIELDS: Mapping[str, Callable[[Image], object]] = {
    "id": lambda image: image.id,
    "image_id": lambda image: image.id,
    "project_id": lambda image: image.owner,
    "owner": lambda image: image.owner,
    "name": lambda image: image.name,
    "status": lambda image: image.status,
    "visibility": lambda image: image.visibility,
    "protected": lambda image: image.protected,
    "os_hidden": lambda image: image.os_hidden,
    "created_at": lambda image: image.created_at,
    "updated_at": lambda image: image.updated_at,
    "min_disk": lambda image: image.min_disk,
    "min_ram": lambda image: image.min_ram,
    "disk_format": lambda image: image.disk_format,
    "container_format": lambda image: image.container_format,
    "size": lambda image: image.size,
    "virtual_size": lambda image: image.virtual_size,
    "checksum": lambda image: image.checksum,
    "os_hash_algo": lambda image: image.os_hash_algo,
    "os_hash_value": lambda image: image.os_hash_value,
    "tags": lambda image: set(image.tags),
}


class _Fields(Mapping[str, object]):
    """Reads a field when it is asked for: most rules look at one or two."""

    def __init__(self, image: Image) -> None:
        self._image = image

    def __getitem__(self, name: str) -> object:
        read = _FIELDS.get(name)
        return self._image.properties[name] if read is None else read(self._image)

    def __iter__(self) -> Iterator[str]:
        yield from _FIELDS
        yield from self._image.properties

    def __len__(self) -> int:
        return len(_FIELDS) + len(self._image.properties)


Precondition = Callable[[Image], None]
"""Raises `PreconditionFailed` when the image is not what a change of it expects.

It may be called in any thread, and more than once.
"""


@attrs.frozen
class Content:
    """What is known about the data of an image once it is stored."""

    size: int
    virtual_size: int | None
    checksum: str | None
    os_hash_algo: str | None
    os_hash_value: str | None
    location: Location
    detected_format: str | None = None
    """The format of the data, if it is not the declared one."""
