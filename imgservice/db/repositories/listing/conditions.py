"""The conditions that the images of a list fulfil: filters, comparisons, the marker."""

from collections.abc import Iterator, Sequence

import sqlalchemy as sa

from imgservice.db.engine.aggregate import unindexed
from imgservice.db.repositories.listing.keys import (
    Condition,
    Ids,
    Key,
    after_marker,
    beginning,
    sort_key,
)
from imgservice.db.repositories.listing.shape import Shape
from imgservice.db.repositories.rows import is_live
from imgservice.db.schema.tables import image_properties, image_tags, images
from imgservice.domain.image import Visibility

_MOST_JOINED = 4
"""The planner of PostgreSQL takes the square, and more, of the tables that it may join."""


def conditions(shape: Shape) -> Iterator[Condition]:
    """Yield all conditions but those of visibility to the project."""
    yield is_live(images)
    yield _hidden() if shape.os_hidden else unindexed(images.c.os_hidden) == sa.false()
    yield unindexed(images.c.status) != "killed"
    yield unindexed(images.c.status) != "deleted"
    if isinstance(shape.visibility, Visibility):
        yield unindexed(images.c.visibility) == shape.visibility.value
    yield from _comparisons(shape)
    yield from _filters(shape)
    if shape.driver is not None:
        yield images.c.id.in_(matching(shape, shape.driver))
    if shape.continued:
        yield from after_marker(shape.sort)


def _hidden() -> Condition:
    """Use the index here: few images are hidden."""
    return images.c.os_hidden == sa.true()


def _filters(shape: Shape) -> Iterator[Condition]:
    joined = _MOST_JOINED
    for number in range(shape.properties):
        yield _has(image_properties, _property(number), number < joined)
    for number in range(shape.tags):
        yield _has(image_tags, _tag(number), shape.properties + number < joined)


def matching(shape: Shape, name: str) -> Ids:
    """Select the ids of all images that match one of `filters_of`."""
    kind, _, number = name.partition("_")
    if kind == "property":
        return sa.select(image_properties.c.image_id).where(*_property(int(number)))
    if kind == "tag":
        return sa.select(image_tags.c.image_id).where(*_tag(int(number)))
    others = images.alias("others")
    is_other_live = unindexed(others.c.deleted) == sa.false()
    return sa.select(others.c.id).where(others.c.visibility == str(shape.visibility), is_other_live)


def _has(table: sa.Table, conditions: Sequence[Condition], is_joined: bool) -> Condition:
    """The image has such a row. OFFSET keeps databases from joining: each image is looked up."""
    found = sa.select(table.c.id).where(table.c.image_id == images.c.id, *conditions)
    return found.exists() if is_joined else found.offset(sa.literal_column("0")).exists()


def _property(number: int) -> Sequence[Condition]:
    name, value = image_properties.c.name, image_properties.c.value
    wanted = sa.bindparam(f"property_{2 * number + 1}", type_=sa.String)
    return (
        name == sa.bindparam(f"property_{2 * number}"),
        # Redundant, but an index can use it: values have any length. Were the bare column compared
        # beside it, SQLite would replace it by the value in here, too.
        beginning(value) == beginning(wanted),
        unindexed(value) == wanted,
        is_live(image_properties),
    )


def _tag(number: int) -> Sequence[Condition]:
    return (image_tags.c.value == sa.bindparam(f"tag_{number}"), is_live(image_tags))


def _comparisons(shape: Shape) -> Iterator[Condition]:
    first = 0
    for field, operator, count in shape.where:
        column = images.c[field]
        # A client may compare with a number that no such column can hold.
        kind = sa.BigInteger() if isinstance(column.type, sa.Integer) else column.type
        values: list[sa.BindParameter[object]] = [
            sa.bindparam(f"where_{first + n}", type_=kind) for n in range(count)
        ]
        yield from _comparison(shape, field, operator, values)
        first += count


def _comparison(
    shape: Shape, field: str, operator: str, values: list[sa.BindParameter[object]]
) -> Iterator[Condition]:
    column: Key = images.c[field]
    if field == "name" and not shape.is_long:
        # Redundant, but the index for sorting by names can use it.
        yield _compare(sort_key(field), operator, values)
        column = unindexed(column)
    gives_order = shape.is_admin and operator == "eq" and shape.sort[0][0] == "created_at"
    if field == "status" and not gives_order:
        # Too many images have the same status for an index that gives no order as well.
        column = unindexed(column)
    yield _compare(column, operator, values)


def _compare(column: Key, operator: str, values: list[sa.BindParameter[object]]) -> Condition:
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
