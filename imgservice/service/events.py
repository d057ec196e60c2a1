"""What happened, as the services tell it after it was committed.

A listener is a class with `hears` and `hear`, and one line in `wiring/listeners.py`. It is called
in the process where the event happened, in the reactor's thread, and before the client gets its
answer; nothing is queued. So a listener that needs time queues for itself, and empties its queue as
a component (`process/components.py`). What failed or was rolled back is not told, and nothing is
told twice; a process that dies right after the commit has told nobody.
"""

import time
from typing import Protocol

import attrs

from imgservice.domain.context import Context
from imgservice.domain.image import Image
from imgservice.domain.member import Member


@attrs.frozen(kw_only=True)
class Event:
    """Something that happened."""

    context: Context = attrs.field(repr=False)
    """Who caused it."""
    at: float = attrs.field(factory=time.time)
    """When, in seconds since 1970."""


@attrs.frozen(kw_only=True)
class ImageEvent(Event):
    """Something that happened to an image."""

    image: Image = attrs.field(repr=False)
    """The image as this change has left it, or as it was before it was deleted."""


@attrs.frozen(kw_only=True)
class ImageCreated(ImageEvent):
    """An image was recorded; it has no data yet."""


@attrs.frozen(kw_only=True)
class ImageUpdated(ImageEvent):
    """Attributes, tags, locations or the status of an image changed."""


@attrs.frozen(kw_only=True)
class ImageActivated(ImageEvent):
    """An image that had no data has got it: by an upload, or by its first location."""


@attrs.frozen(kw_only=True)
class ImageDeleted(ImageEvent):
    """An image was deleted."""


@attrs.frozen(kw_only=True)
class ImageSent(ImageEvent):
    """Data of an image was sent to a client, as a whole or in part."""

    sent: int
    """Bytes that were passed to the connection; fewer than requested if it broke.

    What a proxy in front reads itself (`transfer.accel`) is not told.
    """


@attrs.frozen(kw_only=True)
class MemberEvent(ImageEvent):
    """Something that happened to a member of an image."""

    member: Member


@attrs.frozen(kw_only=True)
class MemberAdded(MemberEvent):
    """An image was offered to a project."""


@attrs.frozen(kw_only=True)
class MemberUpdated(MemberEvent):
    """A project accepted or rejected an image, or took that back."""


@attrs.frozen(kw_only=True)
class MemberRemoved(MemberEvent):
    """An image is not offered to a project any more."""


class Events(Protocol):
    """Where the services tell what happened."""

    def tell(self, event: Event) -> None:
        """Pass the event to whoever listens; never raises."""


class Listener(Protocol):
    """Is told what happens."""

    @property
    def hears(self) -> tuple[type[Event], ...]:
        """The classes of events that it is told, each with its subclasses."""

    def hear(self, event: Event) -> None:
        """Take note of the event, quickly: the caller's request waits."""
