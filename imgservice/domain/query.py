"""Queries for lists of images."""

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
    """A condition on a field of the image; for "in", the value is a tuple."""

    field: str
    operator: Operator
    value: str | int | bool | datetime | tuple[str, ...]


@attrs.frozen
class ImageQuery:
    """A request for one page of a list, as one project sees it."""

    project: str | None
    is_admin: bool
    limit: int
    most_bytes: int = 8 << 20
    """The largest size of a page: it ends before the image that would exceed it."""
    marker: str | None = None
    sort: tuple[tuple[str, Direction], ...] = (("created_at", "desc"), ("id", "desc"))
    """The last key is always "id", which makes the order unique."""
    where: tuple[Comparison, ...] = ()
    properties: tuple[tuple[str, str], ...] = ()
    tags: tuple[str, ...] = ()
    """An image must have all of these tags."""
    visibility: Visibility | Literal["all"] | None = None
    member_status: Literal["accepted", "pending", "rejected", "all"] = "accepted"
    os_hidden: bool = False


@attrs.frozen
class ImagePage:
    """The result of a query."""

    images: Sequence[Image] = ()
    last: str | None = None
    """The id after which there may be more images; None when nothing was found."""
