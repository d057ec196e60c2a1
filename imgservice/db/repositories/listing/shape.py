"""The shape of a query: all that decides the text of its statements, and none of its values."""

from collections.abc import Sequence
from typing import Literal

import attrs

from imgservice.db.engine.statement import Parameters
from imgservice.db.repositories.pages import short
from imgservice.domain.image import Visibility
from imgservice.domain.query import Comparison, Direction, ImageQuery

Sort = tuple[tuple[str, Direction], ...]

_LARGEST = 2**63 - 1
"""The databases know no larger whole number."""
FEW = 200
"""Up to so many images are all found and sorted; more are looked for in order.

So many that the worst search in order is bearable, and so few that counting them, where no index
helps, takes no longer than that search.
"""
_MOST_COUNTED = 4
"""Counting more filters than these would cost more than it can save."""
_MANY = 100
"""Conditions with more values than these are written once: SQLite takes 32,766 in a statement."""


@attrs.frozen
class Shape:
    """All of a query but its values."""

    is_admin: bool
    has_project: bool
    """Without one, a caller who is no administrator sees what everybody sees."""
    visibility: Visibility | Literal["all"] | None
    any_member_status: bool
    os_hidden: bool
    sort: Sort
    where: tuple[tuple[str, str, int], ...]
    """Field, operator, number of values."""
    properties: int
    tags: int
    continued: bool
    """Whether the page begins after a marker."""
    driver: str | None = None
    """The filter of `filters_of` by which images are found, when it is known to match few."""

    @property
    def is_long(self) -> bool:
        """Whether its conditions have so many values that none may be repeated."""
        values = sum(count for _, _, count in self.where)
        return values + self.properties + self.tags > _MANY


def shape_of(query: ImageQuery) -> Shape:
    return Shape(
        is_admin=query.is_admin,
        has_project=query.project is not None,
        visibility=query.visibility,
        any_member_status=query.member_status == "all",
        os_hidden=query.os_hidden,
        sort=up_to_id(query.sort),
        where=tuple((each.field, each.operator, len(_values(each))) for each in query.where),
        properties=len(query.properties),
        tags=len(query.tags),
        continued=query.marker is not None,
    )


def parameters_of(query: ImageQuery, marker_keys: Sequence[object] = ()) -> Parameters:
    """Return the values for `page_statement`; `marker_keys` is the row of `marker_statement`."""
    lists = {
        "where": (value for each in query.where for value in _values(each)),
        "property": (text for pair in query.properties for text in pair),
        "tag": query.tags,
        "key": marker_keys,
    }
    return {
        "project": query.project,
        "member_status": query.member_status,
        "limit": query.limit,
        "short": short(query),
        "marker": query.marker,
    } | {f"{kind}_{n}": value for kind, values in lists.items() for n, value in enumerate(values)}


def filters_of(shape: Shape) -> tuple[str, ...]:
    """Name the filters that may match so few images that a search should begin with them.

    Nothing for callers who are no administrators: their lists begin with what they may see.
    """
    if not shape.is_admin:
        return ()
    found = (
        *(["visibility"] if isinstance(shape.visibility, Visibility) else []),
        *(f"property_{number}" for number in range(shape.properties)),
        *(f"tag_{number}" for number in range(shape.tags)),
    )
    return found[:_MOST_COUNTED]


def driven(shape: Shape, counts: Sequence[int]) -> Shape:
    """Return the shape with the rarest of its filters as the driver, if that is rare enough."""
    count, driver = min(zip(counts, filters_of(shape), strict=True))
    return attrs.evolve(shape, driver=driver) if count <= FEW else shape


def _values(comparison: Comparison) -> tuple[object, ...]:
    """Return the values that a comparison has in the statement.

    The number for "in" is rounded up to a power of two: fewer shapes.
    """
    value = comparison.value
    if isinstance(value, tuple):
        missing = (1 << (len(value) - 1).bit_length()) - len(value) if value else 0
        return value + value[-1:] * missing
    if isinstance(value, int) and not isinstance(value, bool):
        return (max(-_LARGEST, min(value, _LARGEST)),)
    return (value,)


def up_to_id(sort: Sort) -> Sort:
    """Drop the keys after the id, which is unique."""
    fields = [field for field, _ in sort]
    return sort[: fields.index("id") + 1]
