"""Leases: who works on what, so that others can finish it when he dies."""

import attrs


@attrs.frozen
class Lease:
    """A claim on unfinished work, which outlives the process that made it.

    `kind` is "upload" (an object is being added to `store`) or "delete" (the objects of a deleted
    image are being removed, `store` is None).
    """

    id: str
    kind: str
    image_id: str
    holder: str
    store: str | None = None
