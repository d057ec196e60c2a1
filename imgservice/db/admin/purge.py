"""Removing for good what was deleted long ago: oldest first, in small transactions.

Whatever stops it, and however many do it at once, what is removed is removed and the next run goes
on. A row is looked at again when it is removed: it may have come back to life meanwhile.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from time import sleep

import attrs
import sqlalchemy as sa

from imgservice.db.engine.transactions import retry_pauses
from imgservice.db.schema.tables import (
    image_locations,
    image_members,
    image_properties,
    image_tags,
    images,
    leases,
    task_info,
    tasks,
)
from imgservice.db.schema.upgrade import ready

BATCH = 1000
"""Rows that one transaction removes."""
ROUND = 50_000
"""Rows that are looked for at once: each search reads all deleted rows of the table."""
_PENDING = "pending_delete"

Ids = Sequence[str | int]


@attrs.frozen
class Part:
    """One table, and the reasons for which a row that is old enough has to stay."""

    table: sa.Table
    reasons: Mapping[str, sa.ColumnElement[bool]]

    def over(self, before: datetime) -> sa.ColumnElement[bool]:
        """The row was deleted before then. Glance leaves times on rows that it has restored."""
        return sa.and_(self.table.c.deleted == sa.true(), self.table.c.deleted_at < before)

    def removable(self, before: datetime) -> sa.ColumnElement[bool]:
        return sa.and_(self.over(before), *(~reason for reason in self.reasons.values()))

    def staying(self, before: datetime) -> sa.Select[str, int]:
        """Select each reason and how many rows it keeps; of several the first one counts."""
        reason = sa.case(*((held, name) for name, held in self.reasons.items()))
        stays = self.over(before) & sa.or_(*self.reasons.values())
        found = sa.select(reason.label("reason"), self.table.c.id).where(stays).subquery()
        counts = sa.select(found.c.reason, sa.func.count())
        return counts.group_by(found.c.reason).order_by(found.c.reason)


def _leased(image_id: sa.Column[str]) -> sa.ColumnElement[bool]:
    return sa.exists().where(leases.c.image_id == image_id)


def _of_image(table: sa.Table) -> Part:
    """A part of what belongs to images: it tells where data is that has still to be removed."""
    image = images.alias()
    pending = sa.exists().where(image.c.id == table.c.image_id, image.c.status == _PENDING)
    unremoved = [_leased(table.c.image_id), pending]
    if table is image_locations:
        unremoved.append(table.c.status == _PENDING)
    return Part(table, {"data": sa.or_(*unremoved)})


_CHILDREN = (image_members, image_properties, image_tags, image_locations)
PARTS = (*(_of_image(table) for table in _CHILDREN), Part(tasks, {}))
"""All but images: without its row the id of an image could be used again."""
IMAGES = (
    Part(
        images,
        {
            "data": sa.or_(_leased(images.c.id), images.c.status == _PENDING),
            "belongings": sa.or_(
                *(sa.exists().where(table.c.image_id == images.c.id) for table in _CHILDREN)
            ),
        },
    ),
)


@attrs.frozen
class Purge:
    """What to remove: of each table so many rows that were deleted before then."""

    url: str
    parts: Sequence[Part]
    before: datetime
    most: int | None = None

    def waiting(self) -> Mapping[str, int]:
        """Count what would be removed of each table, and change nothing."""
        counts: dict[str, int] = {}
        with _connected(self.url) as connection:
            for part in self.parts:
                found = _count(connection, part.table, part.removable(self.before))
                counts[part.table.name] = self._limited(found)
                if part.table is tasks:
                    counts[task_info.name] = self._limited(_info_count(connection, self.before))
        return counts

    def staying(self) -> Sequence[tuple[str, str, int]]:
        """Return table, reason and number of the rows that are old enough and have to stay."""
        with _connected(self.url) as connection:
            return [
                (part.table.name, reason, count)
                for part in self.parts
                if part.reasons
                for reason, count in connection.execute(part.staying(self.before))
            ]

    def run(
        self, pause: float, wait: Callable[[float], object] = sleep
    ) -> Iterator[Mapping[str, int]]:
        """Remove; yield after each transaction how many rows of which tables are gone.

        Between two transactions others have `pause` seconds for theirs. It ends early when `wait`
        says so.
        """
        with _connected(self.url) as connection:
            for part in self.parts:
                for removed in self._remove(connection, part):
                    yield removed
                    if wait(pause):
                        return

    def _remove(self, connection: sa.Connection, part: Part) -> Iterator[Mapping[str, int]]:
        """Go on until nothing is found: others may have removed what was found first."""
        left = self.most
        while ids := self._found(connection, part, left):
            for first in range(0, len(ids), BATCH):
                removed = _again(connection, part, sorted(ids[first : first + BATCH]), self.before)
                left = left if left is None else left - removed[part.table.name]
                yield removed

    def _found(self, connection: sa.Connection, part: Part, left: int | None) -> Ids:
        columns = part.table.c
        found = (
            sa.select(columns.id)
            .where(part.removable(self.before))
            .order_by(columns.deleted_at, columns.id)
            .limit(ROUND if left is None else min(left, ROUND))
        )
        with connection.begin():
            return connection.scalars(found).all()

    def _limited(self, count: int) -> int:
        return count if self.most is None else min(count, self.most)


def _again(connection: sa.Connection, part: Part, ids: Ids, before: datetime) -> Mapping[str, int]:
    """Remove the rows; try again when others were in the way. SQLite has waited by itself."""
    pauses = iter(()) if connection.dialect.name == "sqlite" else retry_pauses()
    while True:
        try:
            with _writing(connection):
                return _removed(connection, part, ids, before)
        except sa.exc.OperationalError:
            pause = next(pauses, None)
            if pause is None:
                raise
        sleep(pause)


def _removed(
    connection: sa.Connection, part: Part, ids: Ids, before: datetime
) -> Mapping[str, int]:
    still = sa.and_(part.table.c.id.in_(ids), part.over(before))
    counts = {}
    if part.table is tasks:
        info = sa.delete(task_info).where(
            task_info.c.task_id.in_(sa.select(tasks.c.id).where(still))
        )
        counts[task_info.name] = connection.execute(info).rowcount
    counts[part.table.name] = connection.execute(sa.delete(part.table).where(still)).rowcount
    return counts


def _count(connection: sa.Connection, table: sa.Table, found: sa.ColumnElement[bool]) -> int:
    count = sa.select(sa.func.count()).select_from(table).where(found)
    return int(connection.scalar(count) or 0)


def _info_count(connection: sa.Connection, before: datetime) -> int:
    """Count what belongs to the tasks that are removed."""
    part = Part(tasks, {})
    gone = sa.select(tasks.c.id).where(part.removable(before))
    return _count(connection, task_info, task_info.c.task_id.in_(gone))


@contextmanager
def _connected(url: str) -> Iterator[sa.Connection]:
    place = ready(url)
    with place.explained(), place.connected() as connection:
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql("PRAGMA foreign_keys = ON")
            connection.commit()
        yield connection


@contextmanager
def _writing(connection: sa.Connection) -> Iterator[None]:
    with connection.begin():
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        yield
