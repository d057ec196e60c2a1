"""Which images a list asks for, and in which order."""

from collections.abc import Sequence
from datetime import datetime
from typing import Literal

import attrs

from imgservice.domain.image import Image, Visibility

SORT_KEYS = (
    "name",
    "status",
    "container_format",
    "disk_format",
    "size",
    "id",
    "created_at",
    "updated_at",
)

Direction = Literal["asc", "desc"]
Operator = Literal["eq", "neq", "gt", "gte", "lt", "lte", "in"]


@attrs.frozen
class Comparison:
    """A condition on a column of the image itself; for "in" the value is a tuple."""

    field: str
    operator: Operator
    value: str | int | bool | datetime | tuple[str, ...]


@attrs.frozen
class ImageQuery:
    """One page of a list, as one project sees it."""

    project: str | None
    is_admin: bool
    limit: int
    most_bytes: int = 8 << 20
    """The page ends before the image with which it would become longer than this."""
    marker: str | None = None
    sort: tuple[tuple[str, Direction], ...] = (("created_at", "desc"), ("id", "desc"))
    """Always ends in a unique order: the last key is "id"."""
    where: tuple[Comparison, ...] = ()
    properties: tuple[tuple[str, str], ...] = ()
    tags: tuple[str, ...] = ()
    """All of them."""
    visibility: Visibility | Literal["all"] | None = None
    member_status: Literal["accepted", "pending", "rejected", "all"] = "accepted"
    os_hidden: bool = False


@attrs.frozen
class ImagePage:
    """What was found of one page."""

    images: Sequence[Image] = ()
    last: str | None = None
    """The id after which there may be more; None when there is nothing."""
