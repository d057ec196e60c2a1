"""Pages of a list that take a limited number of bytes.

The statement of a page returns properties, tags and locations only where they are short, and
otherwise their length. A second statement reads the long ones, as many as the page has room for. So
values of images that are not shown are never in memory.
"""

from collections.abc import Sequence
from functools import lru_cache

import attrs
import sqlalchemy as sa
from orjson import JSONDecodeError

from imgservice.db.engine.database import Rows
from imgservice.db.engine.statement import Parameters, Row, Statement
from imgservice.db.repositories.rows import (
    LOCATIONS,
    PROPERTIES,
    TAGS,
    image_columns,
    is_live,
    to_image,
)
from imgservice.db.schema.tables import images
from imgservice.domain.query import ImagePage, ImageQuery

ROW = 1000
"""Bytes of an image in an answer without properties, tags and locations, roughly."""
_KINDS = 3
"""Properties, tags and locations."""


@attrs.frozen
class Draft:
    """A page of which some images have still to be read."""

    rows: Sequence[Row]
    long_ids: Sequence[str]
    """The images of which only the lengths are known."""
    has_more: bool
    most_bytes: int

    def completed(self, found: Rows) -> ImagePage:
        """Return the page with the long images that were found; deleted ones are left out."""
        complete = {row[0]: row for row in found.rows}
        known = [complete.get(row[0], row) for row in self.rows]
        rows = _fitting(known, self.most_bytes)
        last = rows[-1][0] if self.has_more or len(rows) < len(known) else None
        return ImagePage([to_image(row) for row in rows if not _is_long(row)], last)


def begin(found: Rows, query: ImageQuery) -> ImagePage | Draft:
    """Return the page, or a draft of it when it has long images."""
    rows = found.rows
    try:
        page = [to_image(row) for row in rows]
    except JSONDecodeError:  # a length is no JSON
        return _draft(rows, query)
    return ImagePage(page, rows[-1][0] if rows and len(rows) == query.limit else None)


def _draft(all_rows: Sequence[Row], query: ImageQuery) -> Draft:
    """Return a draft with as many images as the page has room for, at least one."""
    rows = _fitting(all_rows, query.most_bytes)
    has_more = len(rows) < len(all_rows) or len(all_rows) == query.limit
    return Draft(rows, [row[0] for row in rows if _is_long(row)], has_more, query.most_bytes)


def short(query: ImageQuery) -> int:
    """Return the length of properties, tags or locations up to which they are read at once.

    A page of such images has room for all of them.
    """
    share = query.most_bytes // max(1, query.limit)
    return max(0, share - ROW) // _KINDS


def long_images(begun: Draft, project: str | None) -> tuple[Statement, Parameters]:
    """Return the statement and parameters that read the long images of the draft, in any order."""
    ids = begun.long_ids
    count = 1 << max(0, len(ids) - 1).bit_length()
    padded = [*ids, *("" for _ in range(count - len(ids)))]
    values = {f"id_{number}": id_ for number, id_ in enumerate(padded)}
    return _statement(count), {**values, "project": project}


@lru_cache(maxsize=16)
def _statement(count: int) -> Statement:
    ids: list[sa.BindParameter[str]] = [sa.bindparam(f"id_{number}") for number in range(count)]
    return Statement(
        sa.select(*image_columns("project")).where(images.c.id.in_(ids), is_live(images))
    )


def _fitting(rows: Sequence[Row], most_bytes: int) -> Sequence[Row]:
    """Return the first rows, as many as fit into so many bytes, at least one."""
    total = 0
    for number, row in enumerate(rows):
        total += ROW + sum(map(_length, _texts(row)))
        if total > most_bytes and number:
            return rows[:number]
    return rows


def _is_long(row: Row) -> bool:
    return any(map(_is_length, _texts(row)))


def _length(text: str) -> int:
    return int(text) if _is_length(text) else len(text.encode())


def _is_length(text: str) -> bool:
    return text.startswith("+")


def _texts(row: Row) -> Sequence[str]:
    return [row[place] or "" for place in (PROPERTIES, TAGS, LOCATIONS)]
