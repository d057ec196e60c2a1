"""The statements of lists, built and compiled once for each shape of a query.

SQLite keeps no statistics by itself and guesses that any condition on an indexed column leaves ten
rows. So each statement has only one good plan: what a project sees is a union of parts with an
index each, and which filter is rare is counted before.
"""

from functools import lru_cache

import sqlalchemy as sa

from imgservice.db.engine.statement import Statement
from imgservice.db.repositories.listing.conditions import conditions, matching
from imgservice.db.repositories.listing.keys import Condition, Ids, ordered, sort_key, towards
from imgservice.db.repositories.listing.shape import FEW, Shape, Sort, filters_of, up_to_id
from imgservice.db.repositories.listing.visibility import is_member, shown, was_member, ways
from imgservice.db.repositories.rows import image_columns, is_live
from imgservice.db.schema.tables import images


def page_statement(shape: Shape) -> Statement:
    """Return the statement whose rows are the images of the page, in order."""
    return _long_page_statement(shape) if shape.is_long else _page_statement(shape)


@lru_cache(maxsize=512)
def _page_statement(shape: Shape) -> Statement:
    """Build the statement.

    The inner part finds only the ids of the page, so that properties, tags and locations are
    collected for these images alone.
    """
    page = _page(shape).subquery("page")
    return Statement(
        sa.select(*image_columns("project", "short"))
        .select_from(page.join(images, images.c.id == page.c.id))
        .order_by(*ordered(shape.sort))
    )


_long_page_statement = lru_cache(maxsize=16)(_page_statement.__wrapped__)
"""Few of these are kept: each takes megabytes, and clients choose how many shapes there are."""


@lru_cache(maxsize=64)
def count_statement(shape: Shape) -> Statement | None:
    """Return the statement whose one row tells how many images match each of `filters_of`.

    It counts up to `FEW` + 1.
    """
    counts = [_count(matching(shape, name)) for name in filters_of(shape)]
    return Statement(sa.select(*counts)) if counts else None


@lru_cache(maxsize=64)
def marker_statement(is_admin: bool, has_project: bool, sort: Sort) -> Statement:
    """Return the statement whose one row is the marker's keys; no row when it is not visible.

    A deleted image still marks its place for those who could see it; otherwise deleting the last
    image of a page would stop a client that walks through the pages. In an order that deleting
    changes it marks no place.
    """
    order = up_to_id(sort)
    stays = not {field for field, _ in order} & {"status", "updated_at"}
    return Statement(
        sa.select(*(sort_key(field) for field, _ in order)).where(
            images.c.id == sa.bindparam("marker"),
            sa.true() if stays else is_live(images),
            sa.true()
            if is_admin
            else sa.or_(*shown(sa.or_(is_member(None), was_member()), has_project)),
        )
    )


def _page(shape: Shape) -> Ids:
    """Select the ids of the page."""
    visible = ways(shape)
    if len(visible) == 1:
        return _first(sa.select(images.c.id), shape, visible[0])
    keys = [sort_key(field).label(f"key_{number}") for number, (field, _) in enumerate(shape.sort)]
    parts = [_first(sa.select(images.c.id, *keys), shape, way).subquery() for way in visible]
    # One image may be there in several ways: a union has it once.
    found = sa.union(*(sa.select(part) for part in parts)).subquery("found")
    order = [
        towards(way, found.c[key.name]) for key, (_, way) in zip(keys, shape.sort, strict=True)
    ]
    return sa.select(found.c.id).order_by(*order).limit(_limit())


def _first(found: Ids, shape: Shape, way: Condition) -> Ids:
    """Restrict to the first images that are visible in this way, as many as a page has."""
    found = found.where(way, *conditions(shape))
    return found.order_by(*ordered(shape.sort)).limit(_limit())


def _limit() -> sa.BindParameter[int]:
    return sa.bindparam("limit", type_=sa.Integer)


def _count(found: Ids) -> sa.ScalarSelect[int]:
    some = found.limit(sa.literal_column(str(FEW + 1))).subquery()
    return sa.select(sa.func.count()).select_from(some).scalar_subquery()
