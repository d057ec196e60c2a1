"""The SQL of lists: who may see what, the filters, and paging by key.

A statement's text depends on the shape of a query only, never on its values, so that each shape is
built and compiled once.

SQLite keeps no statistics by itself and guesses that any condition on an indexed column leaves ten
rows. So the statements are written such that there is one good way only: what a member sees is put
together from parts with an index each, and which filter is rare is counted before.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, Literal

import attrs
import sqlalchemy as sa

from imgservice.db.engine.aggregate import unindexed
from imgservice.db.engine.statement import Parameters, Statement
from imgservice.db.repositories.pages import short
from imgservice.db.repositories.rows import image_columns, is_live
from imgservice.db.schema.tables import image_members, image_properties, image_tags, images
from imgservice.domain.image import Visibility
from imgservice.domain.query import Comparison, Direction, ImageQuery

Condition = sa.ColumnElement[bool]

_LARGEST = 2**63 - 1
"""The databases know no larger whole number."""
_INDEXED_LENGTH = 100
"""The part of a property's value that an index can know."""
FEW = 200
"""Up to so many images are all found and sorted; more are looked for in order.

So many that the worst search in order is bearable, and so few that counting them, where no index
helps, takes no longer than that search.
"""
_MOST_COUNTED = 4
"""Counting more filters than these would cost more than it can save."""
_MOST_JOINED = 4
"""The planner of PostgreSQL takes the square, and more, of the tables that it may join."""
_MANY = 100
"""Conditions with so many values are written once: SQLite takes 32,766 in a statement."""


@attrs.frozen
class Shape:
    """All of a query but its values."""

    is_admin: bool
    has_project: bool
    """Without one, and as no administrator, he sees what is for everybody."""
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
        "short": short(query),
        "marker": query.marker,
    } | {f"{kind}_{n}": value for kind, values in lists.items() for n, value in enumerate(values)}


def page_statement(shape: Shape) -> Statement:
    """Return the statement whose rows are the images of the page, in order."""
    return _long_page_statement(shape) if shape.is_long else _page_statement(shape)


@lru_cache(maxsize=512)
def _page_statement(shape: Shape) -> Statement:
    """Build the statement.

    The inner part finds no more than the ids of the page, so that whatever belongs to an image is
    collected for these only.
    """
    page = _page(shape).subquery("page")
    return Statement(
        sa.select(*image_columns("project", "short"))
        .select_from(page.join(images, images.c.id == page.c.id))
        .order_by(*_order(shape.sort))
    )


_long_page_statement = lru_cache(maxsize=16)(_page_statement.__wrapped__)
"""Long ones take megabytes, and clients choose how many different ones there are."""


def filters_of(shape: Shape) -> tuple[str, ...]:
    """Name the filters that may match next to nothing, and then are where to begin.

    A member's list begins with what he may see.
    """
    if not shape.is_admin:
        return ()
    found = (
        *(["visibility"] if isinstance(shape.visibility, Visibility) else []),
        *(f"property_{number}" for number in range(shape.properties)),
        *(f"tag_{number}" for number in range(shape.tags)),
    )
    return found[:_MOST_COUNTED]


@lru_cache(maxsize=64)
def count_statement(shape: Shape) -> Statement | None:
    """Return the statement whose one row tells how many images match each of `filters_of`.

    Counted is no further than to `FEW` and one more.
    """
    counts = [_count(_matching(shape, name)) for name in filters_of(shape)]
    return Statement(sa.select(*counts)) if counts else None


def driven(shape: Shape, counts: Sequence[int]) -> Shape:
    """Return the shape with the rarest of its filters as the driver, if that is rare enough."""
    count, driver = min(zip(counts, filters_of(shape), strict=True))
    return attrs.evolve(shape, driver=driver) if count <= FEW else shape


@lru_cache(maxsize=64)
def marker_statement(
    is_admin: bool, has_project: bool, sort: tuple[tuple[str, Direction], ...]
) -> Statement:
    """Return the statement whose one row is the marker's keys; none when it may not be seen.

    A deleted image still marks the place that it had for those who could see it, or to delete the
    last image of a page would end somebody's walk. Where deleting moves it, it marks no place.
    """
    order = _up_to_id(sort)
    stays = not {field for field, _ in order} & {"status", "updated_at"}
    return Statement(
        sa.select(*(sort_key(field) for field, _ in order)).where(
            images.c.id == sa.bindparam("marker"),
            sa.true() if stays else is_live(images),
            sa.true()
            if is_admin
            else sa.or_(*_shown(sa.or_(_member(None), _was_member()), has_project)),
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


def _page(shape: Shape) -> sa.Select[Any]:
    """Select the ids of the page."""
    ways = _ways(shape)
    if len(ways) == 1:
        return _first(sa.select(images.c.id), shape, ways[0])
    keys = [sort_key(field).label(f"key_{number}") for number, (field, _) in enumerate(shape.sort)]
    parts = [_first(sa.select(images.c.id, *keys), shape, way).subquery() for way in ways]
    # One image may be there in several ways: a union has it once.
    found = sa.union(*(sa.select(part) for part in parts)).subquery("found")
    order = [
        _towards(way, found.c[key.name]) for key, (_, way) in zip(keys, shape.sort, strict=True)
    ]
    return sa.select(found.c.id).order_by(*order).limit(_limit())


def _first(found: sa.Select[Any], shape: Shape, way: Condition) -> sa.Select[Any]:
    """Restrict to the first images, as many as the page has, that may be seen in this way."""
    conditions = (way, *_conditions(shape))
    return found.where(*conditions).order_by(*_order(shape.sort)).limit(_limit())


def _limit() -> sa.BindParameter[int]:
    return sa.bindparam("limit", type_=sa.Integer)


def _ways(shape: Shape) -> Sequence[Condition]:
    """In which ways an image can be there for who asks: each is a part of the statement."""
    if not shape.is_admin:
        member = _member(None if shape.any_member_status else "member_status")
        ways = _visible(shape.visibility, member, shape.has_project)
        return [sa.or_(*ways)] if shape.is_long else ways
    if shape.visibility is None:
        return [sa.or_(unindexed(images.c.visibility) != "community", _own())]
    return [sa.true()]


def _conditions(shape: Shape) -> Iterator[Condition]:
    yield is_live(images)
    yield _hidden() if shape.os_hidden else unindexed(images.c.os_hidden) == sa.false()
    yield unindexed(images.c.status) != "killed"
    yield unindexed(images.c.status) != "deleted"
    if isinstance(shape.visibility, Visibility):
        yield unindexed(images.c.visibility) == shape.visibility.value
    yield from _comparisons(shape)
    yield from _filters(shape)
    if shape.driver is not None:
        yield images.c.id.in_(_matching(shape, shape.driver))
    if shape.continued:
        yield from _after_marker(shape.sort)


def _filters(shape: Shape) -> Iterator[Condition]:
    joined = _MOST_JOINED
    for number in range(shape.properties):
        yield _has(image_properties, _property(number), number < joined)
    for number in range(shape.tags):
        yield _has(image_tags, _tag(number), shape.properties + number < joined)


def _matching(shape: Shape, name: str) -> sa.Select[Any]:
    """Select the ids of all images that match one of `filters_of`."""
    kind, _, number = name.partition("_")
    if kind == "property":
        return sa.select(image_properties.c.image_id).where(*_property(int(number)))
    if kind == "tag":
        return sa.select(image_tags.c.image_id).where(*_tag(int(number)))
    others = images.alias("others")
    is_other_live = unindexed(others.c.deleted) == sa.false()
    return sa.select(others.c.id).where(others.c.visibility == str(shape.visibility), is_other_live)


def _count(matching: sa.Select[Any]) -> sa.ScalarSelect[int]:
    some = matching.limit(sa.literal_column(str(FEW + 1))).subquery()
    return sa.select(sa.func.count()).select_from(some).scalar_subquery()


def _hidden() -> Condition:
    """Few images are: here the index is worth it."""
    return images.c.os_hidden == sa.true()


def _own() -> Condition:
    return images.c.owner == sa.bindparam("project")


def _visible(
    asked: Visibility | Literal["all"] | None, member: Condition, has_project: bool
) -> Sequence[Condition]:
    """In which ways a project, or one who has none, may see an image of the visibility asked for.

    When it asks for none in particular, what others offer to the community stays out.
    """
    visibility = images.c.visibility
    if asked in (Visibility.PUBLIC, Visibility.COMMUNITY):
        return [visibility == str(asked)]
    ways = list(_own_ways(asked, member)) if has_project else []
    if asked in (None, "all"):
        ways.append(visibility == "public")
    if asked == "all":
        ways.append(visibility == "community")
    return ways or [sa.false()]


def _own_ways(asked: Visibility | Literal["all"] | None, member: Condition) -> Iterator[Condition]:
    """What a project sees beside that which everybody does."""
    yield _own()
    if asked in (None, "all", Visibility.SHARED):
        # Few images are shared with one project: found by their ids, not by this column.
        yield sa.and_(unindexed(images.c.visibility) == "shared", member)


def _shown(member: Condition, has_project: bool) -> Sequence[Condition]:
    """In which ways who knows its id may see an image: as a list, or because it is nobody's."""
    unowned = sa.and_(images.c.owner.is_(None), unindexed(images.c.visibility) != "private")
    return [*_visible("all", member, has_project), unowned]


def _member(status: str | None) -> Condition:
    """The project is a member of the image, in the status of the parameter `status` or in any."""
    members = image_members.c
    found = sa.select(members.image_id).where(
        members.member == sa.bindparam("project"), is_live(image_members)
    )
    if status is not None:
        found = found.where(members.status == sa.bindparam(status))
    return images.c.id.in_(found)


def _was_member() -> Condition:
    """The project was a member of the image when that was deleted, and its members with it."""
    members = image_members.c
    found = sa.select(members.id).where(
        members.image_id == images.c.id,
        members.member == sa.bindparam("project"),
        members.deleted_at == images.c.deleted_at,
    )
    return found.exists()


def _comparisons(shape: Shape) -> Iterator[Condition]:
    first = 0
    for field, operator, count in shape.where:
        column = images.c[field]
        # A number may be asked for that no such column can hold.
        kind = sa.BigInteger() if isinstance(column.type, sa.Integer) else column.type
        values: list[sa.BindParameter[Any]] = [
            sa.bindparam(f"where_{first + n}", type_=kind) for n in range(count)
        ]
        yield from _comparison(shape, field, operator, values)
        first += count


def _comparison(
    shape: Shape, field: str, operator: str, values: list[sa.BindParameter[Any]]
) -> Iterator[Condition]:
    column: sa.ColumnElement[Any] = images.c[field]
    if field == "name" and not shape.is_long:
        # Says nothing new, but in a form that the index for sorting by names can use.
        yield _compare(sort_key(field), operator, values)
        column = unindexed(column)
    gives_order = shape.is_admin and operator == "eq" and shape.sort[0][0] == "created_at"
    if field == "status" and not gives_order:
        # Too many images have the same for an index that is good for nothing else.
        column = unindexed(column)
    yield _compare(column, operator, values)


def _compare(
    column: sa.ColumnElement[Any], operator: str, values: list[sa.BindParameter[Any]]
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


def _has(table: sa.Table, conditions: Sequence[Condition], is_joined: bool) -> Condition:
    """What is not joined is looked up for each image: no database joins what has an OFFSET."""
    found = sa.select(table.c.id).where(table.c.image_id == images.c.id, *conditions)
    return found.exists() if is_joined else found.offset(sa.literal_column("0")).exists()


def _property(number: int) -> Sequence[Condition]:
    name, value = image_properties.c.name, image_properties.c.value
    wanted = sa.bindparam(f"property_{2 * number + 1}", type_=sa.String)
    return (
        name == sa.bindparam(f"property_{2 * number}"),
        # Says nothing new, but in a form that an index can use: values have any length. SQLite
        # would write the value wanted into it, were it compared with the bare column beside it.
        beginning(value) == beginning(wanted),
        unindexed(value) == wanted,
        is_live(image_properties),
    )


def _tag(number: int) -> Sequence[Condition]:
    return (image_tags.c.value == sa.bindparam(f"tag_{number}"), is_live(image_tags))


def beginning(text: sa.ColumnElement[Any]) -> sa.ColumnElement[str]:
    """Return the part of a property's value that is indexed, in the very words of the index."""
    length: sa.ColumnClause[int] = sa.literal_column(str(_INDEXED_LENGTH))
    first: sa.ColumnClause[int] = sa.literal_column("1")
    return sa.func.substr(text, first, length)


def sort_key(field: str) -> sa.ColumnElement[Any]:
    """What a list sorts by: never NULL, or no page could begin after such a row.

    Indexes have the very same words, so there are no parameters in it.
    """
    column = images.c[field]
    if field == "updated_at":
        return sa.func.coalesce(column, images.c.created_at)
    if not column.nullable:
        return column
    return sa.func.coalesce(column, sa.literal_column("0" if field == "size" else "''"))


def _order(sort: tuple[tuple[str, Direction], ...]) -> list[sa.ColumnElement[Any]]:
    return [_towards(way, sort_key(field)) for field, way in sort]


def _towards(way: Direction, key: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    return key.asc() if way == "asc" else key.desc()


def _after_marker(sort: tuple[tuple[str, Direction], ...]) -> Iterator[Condition]:
    """The row comes after the one whose keys are the parameters key_0, key_1 ..."""
    after: Condition = sa.false()
    for number, (field, way) in reversed(list(enumerate(sort))):
        key = sort_key(field)
        value: sa.BindParameter[Any] = sa.bindparam(f"key_{number}")
        beyond = key > value if way == "asc" else key < value
        after = sa.or_(beyond, sa.and_(key == value, after))
    yield after
    # Says nothing new, but in a form that an index on the first key can use.
    field, way = sort[0]
    first: sa.BindParameter[Any] = sa.bindparam("key_0")
    yield sort_key(field) >= first if way == "asc" else sort_key(field) <= first
