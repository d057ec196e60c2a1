"""Leases: who works on what, so that others can finish it when he dies."""

import attrs


@attrs.frozen
class Lease:
    """A claim on unfinished work, which outlives the process that made it.

    `kind` is "upload" (an object is being added to `store`), "location" (an object that somebody
    else has put there is being read), "delete" (the objects of a deleted image are being removed)
    or "remove" (those of locations that the image has lost); `store` is None for the last two.
    """

    id: str
    kind: str
    image_id: str
    holder: str
    store: str | None = None
    project: str | None = None
    """Who is charged for the bytes that the work may add, where these are limited."""
    reserved: int | None = None
    """How many these are, at first."""
