"""Jobs: work that outlives the request and the process that began it."""

from collections.abc import Mapping

import attrs

# The kinds: at most 16 characters, as the column of the table.
UPLOAD = "upload"
"""An object is being added to `store`."""
LOCATION = "location"
"""An object that a client has named is being read."""
DELETE = "delete"
"""The objects of a deleted image are being removed."""
REMOVE = "remove"
"""The objects at locations that the image has lost are being removed."""

NOBODY = ""
"""The owner of a job that waits for a process to claim it."""
LEASE_TIME = 60.0
"""Seconds after which a lease expires that is not renewed."""
LONGEST_PAUSE = 300.0
"""Seconds, at most, between two attempts at a job."""


@attrs.frozen
class Job:
    """Work on an image, and the lease of the process that does it.

    Only the owner of the lease may record what comes of the work, so that a process which seemed
    dead, and was replaced, changes nothing any more.
    """

    id: str
    kind: str
    image_id: str
    owner: str
    store: str | None = None
    project: str | None = None
    """The project charged for the bytes that the work may add, where these are limited."""
    reserved: int | None = None
    """How many bytes that is, at first."""
    attempts: int = 0
    """How often a process has claimed the job."""
    error: str | None = None
    """Why the last attempt failed, if that was logged."""
    is_cancelled: bool = False
    """Whether the image was deleted, so that the work is for nothing."""
    payload: Mapping[str, object] = attrs.field(factory=dict, hash=False)
    """What else the work needs to know: values that JSON has."""


@attrs.frozen
class LeaseHolding:
    """The leases of one owner, together."""

    owner: str
    is_renewed: bool
    """Whether all of them seem to be renewed in time, judged by wall clocks.

    False proves nothing, since clocks may be wrong: it only tells where to look closely.
    """


def pause_after(attempts: int) -> float:
    """Return how many seconds a job waits after so many failed attempts."""
    return min(LONGEST_PAUSE, 2.0 ** max(0, min(attempts, 30) - 1))
