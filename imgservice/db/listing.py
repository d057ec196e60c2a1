"""The SQL of lists: who may see what, the filters, and paging by key.

A statement's text depends on the shape of a query only, never on its values, so that each shape is
built and compiled once.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, Literal

import attrs
import sqlalchemy as sa

from imgservice.db.aggregate import unindexed
from imgservice.db.rows import image_columns, is_live
from imgservice.db.schema import image_members, image_properties, image_tags, images
from imgservice.db.statement import Parameters, Statement
from imgservice.domain.image import Visibility
from imgservice.domain.query import Comparison, Direction, ImageQuery

Condition = sa.ColumnElement[bool]

_LARGEST = 2**63 - 1
"""The databases know no larger whole number."""


@attrs.frozen
class Shape:
    """All of a query but its values."""

    is_admin: bool
    visibility: Visibility | Literal["all"] | None
    any_member_status: bool
    os_hidden: bool
    sort: tuple[tuple[str, Direction], ...]
    where: tuple[tuple[str, str, int], ...]
    """Field, operator, number of values."""
    properties: int
    tags: int
    continued: bool
    """Whether the page begins after a marker."""


def shape_of(query: ImageQuery) -> Shape:
    return Shape(
        is_admin=query.is_admin,
        visibility=query.visibility,
        any_member_status=query.member_status == "all",
        os_hidden=query.os_hidden,
        sort=_up_to_id(query.sort),
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
        "marker": query.marker,
    } | {f"{kind}_{n}": value for kind, values in lists.items() for n, value in enumerate(values)}


@lru_cache(maxsize=512)
def page_statement(shape: Shape) -> Statement:
    """Return the statement whose rows are the images of the page, in order.

    The inner part finds no more than the ids of the page, so that whatever belongs to an image is
    collected for these only.
    """
    order = _order(shape.sort)
    ids = sa.select(images.c.id).where(*_conditions(shape)).order_by(*order)
    page = ids.limit(sa.bindparam("limit", type_=sa.Integer)).subquery("page")
    return Statement(
        sa.select(*image_columns("project"))
        .select_from(page.join(images, images.c.id == page.c.id))
        .order_by(*order)
    )


@lru_cache(maxsize=64)
def marker_statement(is_admin: bool, sort: tuple[tuple[str, Direction], ...]) -> Statement:
    """Return the statement whose one row is the marker's keys; none when it may not be seen."""
    return Statement(
        sa.select(*(_key(field) for field, _ in _up_to_id(sort))).where(
            images.c.id == sa.bindparam("marker"),
            is_live(images),
            sa.true() if is_admin else _visible("all", _member(None)),
        )
    )


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


def _up_to_id(sort: tuple[tuple[str, Direction], ...]) -> tuple[tuple[str, Direction], ...]:
    """Drop what can decide nothing any more."""
    fields = [field for field, _ in sort]
    return sort[: fields.index("id") + 1]


def _conditions(shape: Shape) -> Iterator[Condition]:
    yield is_live(images)
    yield _hidden() if shape.os_hidden else unindexed(images.c.os_hidden) == sa.false()
    yield unindexed(images.c.status) != "killed"
    yield unindexed(images.c.status) != "deleted"
    yield from _visibility(shape)
    yield from _comparisons(shape)
    yield from (_has_property(number) for number in range(shape.properties))
    yield from (_has_tag(number) for number in range(shape.tags))
    if shape.continued:
        yield from _after_marker(shape.sort)


def _visibility(shape: Shape) -> Iterator[Condition]:
    asked = shape.visibility
    if not shape.is_admin:
        member = _member(None if shape.any_member_status else "member_status")
        yield _visible(asked, member)
    elif asked is None:
        yield sa.or_(images.c.visibility != "community", _own())
    if isinstance(asked, Visibility):
        yield unindexed(images.c.visibility) == asked.value


def _hidden() -> Condition:
    """Few images are: here the index is worth it."""
    return images.c.os_hidden == sa.true()


def _own() -> Condition:
    return images.c.owner == sa.bindparam("project")


def _visible(asked: Visibility | Literal["all"] | None, member: Condition) -> Condition:
    """What a project may see of the visibility asked for.

    When it asks for none in particular, what others offer to the community stays out.
    """
    visibility, unowned = images.c.visibility, images.c.owner.is_(None)
    ways: list[Condition] = [_own()]
    if asked is None:
        ways.append(sa.and_(unowned, unindexed(visibility) != "community"))
    else:
        ways.append(unowned)
    if asked in (None, "all", Visibility.PUBLIC):
        ways.append(visibility == "public")
    if asked in ("all", Visibility.COMMUNITY):
        ways.append(visibility == "community")
    if asked in (None, "all", Visibility.SHARED):
        # Few images are shared with one project: found by their ids, not by this column.
        ways.append(sa.and_(unindexed(visibility) == "shared", member))
    return sa.or_(*ways)


def _member(status: str | None) -> Condition:
    """The project is a member of the image, in the status of the parameter `status` or in any."""
    members = image_members.c
    found = sa.select(members.image_id).where(
        members.member == sa.bindparam("project"), is_live(image_members)
    )
    if status is not None:
        found = found.where(members.status == sa.bindparam(status))
    return images.c.id.in_(found)


def _comparisons(shape: Shape) -> Iterator[Condition]:
    first = 0
    for field, operator, count in shape.where:
        values: list[sa.BindParameter[Any]] = [
            sa.bindparam(f"where_{first + n}") for n in range(count)
        ]
        yield _compare(images.c[field], operator, values)
        first += count


def _compare(
    column: sa.Column[Any], operator: str, values: list[sa.BindParameter[Any]]
) -> Condition:
    match operator:
        case "in":
            return column.in_(values) if values else sa.false()
        case "eq":
            return column == values[0]
        case "neq":
            return column != values[0]
        case "gt":
            return column > values[0]
        case "gte":
            return column >= values[0]
        case "lt":
            return column < values[0]
        case "lte":
            return column <= values[0]
    raise ValueError(f"unknown operator {operator}")


def _has_property(number: int) -> Condition:
    properties = image_properties.c
    return (
        sa.select(properties.id)
        .where(
            properties.image_id == images.c.id,
            properties.name == sa.bindparam(f"property_{2 * number}"),
            properties.value == sa.bindparam(f"property_{2 * number + 1}"),
            is_live(image_properties),
        )
        .exists()
    )


def _has_tag(number: int) -> Condition:
    tags = image_tags.c
    return (
        sa.select(tags.id)
        .where(
            tags.image_id == images.c.id,
            tags.value == sa.bindparam(f"tag_{number}"),
            is_live(image_tags),
        )
        .exists()
    )


def _key(field: str) -> sa.ColumnElement[Any]:
    """What a list sorts by: never NULL, or no page could begin after such a row."""
    column = images.c[field]
    if field == "updated_at":
        return sa.func.coalesce(column, images.c.created_at)
    if not column.nullable:
        return column
    return sa.func.coalesce(column, 0 if field == "size" else "")


def _order(sort: tuple[tuple[str, Direction], ...]) -> list[sa.ColumnElement[Any]]:
    return [_key(field).asc() if way == "asc" else _key(field).desc() for field, way in sort]


def _after_marker(sort: tuple[tuple[str, Direction], ...]) -> Iterator[Condition]:
    """The row comes after the one whose keys are the parameters key_0, key_1 ..."""
    after: Condition = sa.false()
    for number, (field, way) in reversed(list(enumerate(sort))):
        key = _key(field)
        value: sa.BindParameter[Any] = sa.bindparam(f"key_{number}")
        beyond = key > value if way == "asc" else key < value
        after = sa.or_(beyond, sa.and_(key == value, after))
    yield after
    # Says nothing new, but in a form that an index on the first key can use.
    field, way = sort[0]
    first: sa.BindParameter[Any] = sa.bindparam("key_0")
    yield _key(field) >= first if way == "asc" else _key(field) <= first
