"""Counts the contents of a database."""

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime

import attrs
import orjson
import sqlalchemy as sa

from imgservice.db.repositories.rows import utc_now
from imgservice.db.schema.tables import (
    glance_metadata,
    image_locations,
    images,
    leases,
    own_metadata,
)
from imgservice.db.schema.upgrade import ready_database
from imgservice.domain.job import NOBODY


@attrs.frozen
class Counted:
    """The rows of a table, or those with one status."""

    table: str
    status: str | None
    live: int
    deleted: int = 0
    oldest_deleted: datetime | None = None


@attrs.frozen
class StoreUse:
    """The data of live images in one store; None is for locations without a store."""

    store: str | None
    locations: int
    bytes: int


@attrs.frozen
class JobCount:
    """Jobs of one kind."""

    kind: str
    count: int
    expired: int
    """Those whose lease should have been renewed: another process will take them."""
    waiting: int
    """Those that wait for another attempt."""
    oldest: datetime


@attrs.frozen
class Statistics:
    tables: Sequence[Counted]
    """For a table with statuses, first all rows and then those of each status."""
    stores: Sequence[StoreUse]
    leases: Sequence[JobCount]


def count_everything(url: str) -> Statistics:
    """Count everything; each table is read once, which takes a while with many images."""
    database = ready_database(url)
    with database.explained(), database.connected() as connection:
        return Statistics(
            tables=list(_tables(connection)),
            stores=_stores(connection),
            leases=list(_jobs(connection)),
        )


def _tables(connection: sa.Connection) -> Iterator[Counted]:
    for table in (*glance_metadata.sorted_tables, *own_metadata.sorted_tables):
        if "deleted" in table.c:
            yield from _by_status(connection, table)
        else:
            count = connection.scalar(sa.select(sa.func.count()).select_from(table))
            yield Counted(table.name, None, int(count or 0))


def _by_status(connection: sa.Connection, table: sa.Table) -> Iterator[Counted]:
    found = [Counted(table.name, *row) for row in connection.execute(_statuses(table))]
    yield Counted(
        table.name,
        None,
        sum(one.live for one in found),
        sum(one.deleted for one in found),
        min((one.oldest_deleted for one in found if one.oldest_deleted), default=None),
    )
    if "status" in table.c:
        yield from found


def _statuses(table: sa.Table) -> sa.Select[str, int, int, datetime]:
    no_status = sa.type_coerce(sa.null(), sa.String)
    status: sa.ColumnElement[str] = table.c.status if "status" in table.c else no_status
    is_deleted = table.c.deleted == sa.true()
    chosen = sa.select(
        status.label("status"),
        sa.func.count(sa.case((~is_deleted, 1))),
        sa.func.count(sa.case((is_deleted, 1))),
        sa.func.min(sa.case((is_deleted, table.c.deleted_at))),
    )
    return chosen.group_by(status).order_by(status) if "status" in table.c else chosen


def _stores(connection: sa.Connection) -> Sequence[StoreUse]:
    """Add up by the stores in the metadata of locations, which are JSON and so read in Python."""
    found = sa.select(
        image_locations.c.meta_data,
        sa.func.count(),
        sa.func.coalesce(sa.func.sum(images.c.size), 0),
    ).join_from(image_locations, images, images.c.id == image_locations.c.image_id)
    live = found.where(
        image_locations.c.deleted == sa.false(), image_locations.c.status == "active"
    )
    locations: Counter[str | None] = Counter()
    sizes: Counter[str | None] = Counter()
    for metadata, count, size in connection.execute(live.group_by(image_locations.c.meta_data)):
        store = _store(metadata)
        locations[store] += count
        sizes[store] += int(size)
    names = sorted(locations, key=lambda name: (name is None, name or ""))
    return [StoreUse(name, locations[name], sizes[name]) for name in names]


def _store(metadata: str | None) -> str | None:
    """Return the store's name, which older Glance releases call a backend."""
    try:
        read = orjson.loads(metadata or "{}")
    except orjson.JSONDecodeError:
        return None
    named = (read.get("store") or read.get("backend")) if isinstance(read, dict) else None
    return named if isinstance(named, str) else None


def _jobs(connection: sa.Connection) -> Iterator[JobCount]:
    is_waiting = leases.c.holder == NOBODY
    is_expired = sa.and_(~is_waiting, leases.c.expires_at <= utc_now())
    found = sa.select(
        leases.c.kind,
        sa.func.count(),
        sa.func.count(sa.case((is_expired, 1))),
        sa.func.count(sa.case((is_waiting, 1))),
        sa.func.min(leases.c.created_at),
    )
    for row in connection.execute(found.group_by(leases.c.kind).order_by(leases.c.kind)):
        yield JobCount(*row)
