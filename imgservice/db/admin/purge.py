"""Removes rows that were deleted long ago: the oldest first, in small transactions.

It may be interrupted at any time, and several may run at once: the next run continues. A row is
checked again when it is removed: it may have been restored meanwhile.
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
from imgservice.db.schema.upgrade import ready_database

BATCH = 1000
"""Rows that one transaction removes."""
ROUND = 50_000
"""Rows that one search finds: each search reads all deleted rows of the table."""
_PENDING = "pending_delete"

Ids = Sequence[str | int]


@attrs.frozen
class PurgedTable:
    """One table, and the reasons for which old enough rows must stay."""

    table: sa.Table
    reasons: Mapping[str, sa.ColumnElement[bool]]

    def over(self, before: datetime) -> sa.ColumnElement[bool]:
        """The row was deleted before then. Glance leaves the time on rows that it restores."""
        return sa.and_(self.table.c.deleted == sa.true(), self.table.c.deleted_at < before)

    def removable(self, before: datetime) -> sa.ColumnElement[bool]:
        return sa.and_(self.over(before), *(~reason for reason in self.reasons.values()))

    def staying(self, before: datetime) -> sa.Select[str, int]:
        """Select each reason and how many rows stay for it; of several reasons the first counts."""
        reason = sa.case(*((held, name) for name, held in self.reasons.items()))
        stays = self.over(before) & sa.or_(*self.reasons.values())
        found = sa.select(reason.label("reason"), self.table.c.id).where(stays).subquery()
        counts = sa.select(found.c.reason, sa.func.count())
        return counts.group_by(found.c.reason).order_by(found.c.reason)


def _leased(image_id: sa.Column[str]) -> sa.ColumnElement[bool]:
    return sa.exists().where(leases.c.image_id == image_id)


def _of_image(table: sa.Table) -> PurgedTable:
    """Return a table whose rows stay while data of their images has still to be removed."""
    image = images.alias()
    pending = sa.exists().where(image.c.id == table.c.image_id, image.c.status == _PENDING)
    unremoved = [_leased(table.c.image_id), pending]
    if table is image_locations:
        unremoved.append(table.c.status == _PENDING)
    return PurgedTable(table, {"data": sa.or_(*unremoved)})


_CHILDREN = (image_members, image_properties, image_tags, image_locations)
PARTS = (*(_of_image(table) for table in _CHILDREN), PurgedTable(tasks, {}))
"""All tables but images: without its row an image's id could be used again."""
IMAGES = (
    PurgedTable(
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
    """Removes up to `most` rows of each table that were deleted before `before`."""

    url: str
    parts: Sequence[PurgedTable]
    before: datetime
    most: int | None = None

    def waiting(self) -> Mapping[str, int]:
        """Count what would be removed from each table, and change nothing."""
        counts: dict[str, int] = {}
        with _connected(self.url) as connection:
            for part in self.parts:
                found = _count(connection, part.table, part.removable(self.before))
                counts[part.table.name] = self._limited(found)
                if part.table is tasks:
                    counts[task_info.name] = self._limited(_info_count(connection, self.before))
        return counts

    def staying(self) -> Sequence[tuple[str, str, int]]:
        """Return table, reason and number of the rows that are old enough but must stay."""
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
        """Remove rows; yield after each transaction how many rows of which tables it removed.

        It waits `pause` seconds between transactions, by `wait`, and stops when that returns true.
        """
        with _connected(self.url) as connection:
            for part in self.parts:
                for removed in self._remove(connection, part):
                    yield removed
                    if wait(pause):
                        return

    def _remove(self, connection: sa.Connection, part: PurgedTable) -> Iterator[Mapping[str, int]]:
        """Repeat until nothing is found: others may have removed what was found first."""
        left = self.most
        while ids := self._found(connection, part, left):
            for first in range(0, len(ids), BATCH):
                removed = _again(connection, part, sorted(ids[first : first + BATCH]), self.before)
                left = left if left is None else left - removed[part.table.name]
                yield removed

    def _found(self, connection: sa.Connection, part: PurgedTable, left: int | None) -> Ids:
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


def _again(
    connection: sa.Connection, part: PurgedTable, ids: Ids, before: datetime
) -> Mapping[str, int]:
    """Remove the rows; repeat after conflicts, except on SQLite, which has waited by itself."""
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
    connection: sa.Connection, part: PurgedTable, ids: Ids, before: datetime
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
    """Count the rows that belong to the tasks to remove."""
    part = PurgedTable(tasks, {})
    gone = sa.select(tasks.c.id).where(part.removable(before))
    return _count(connection, task_info, task_info.c.task_id.in_(gone))


@contextmanager
def _connected(url: str) -> Iterator[sa.Connection]:
    database = ready_database(url)
    with database.explained(), database.connected() as connection:
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
