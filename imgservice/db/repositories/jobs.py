"""The repository of jobs: their leases, retries and cancellation, as rows of our own table.

The column of a lease's owner is called `holder`, as nodes of earlier versions know it.
"""

from collections.abc import Callable, Mapping, Sequence, Set
from datetime import datetime, timedelta
from functools import lru_cache

import attrs
import orjson
import sqlalchemy as sa

from imgservice.db.engine.database import Database, Rows, Transaction
from imgservice.db.engine.statement import Parameters, Row, Statement
from imgservice.db.repositories.rows import utc_now
from imgservice.db.schema.tables import leases
from imgservice.domain.job import LEASE_TIME, LONGEST_PAUSE, NOBODY, Job, LeaseHolding

_COLUMNS = (
    leases.c.id,
    leases.c.kind,
    leases.c.image_id,
    leases.c.holder,
    leases.c.store,
    leases.c.project,
    leases.c.reserved,
    leases.c.attempts,
    leases.c.error,
    leases.c.cancelled,
    leases.c.payload,
)
_OWNER: sa.BindParameter[str] = sa.bindparam("held_by")
_THIS = (leases.c.id == sa.bindparam("job"), leases.c.holder == _OWNER)
_UNTIL: sa.BindParameter[datetime] = sa.bindparam("until")

_RECORD = Statement(
    sa.insert(leases).values({column.name: sa.bindparam(column.name) for column in leases.c})
)
_END = Statement(sa.delete(leases).where(*_THIS))
_CLAIM = Statement(
    sa.update(leases)
    .where(*_THIS)
    .values(holder=sa.bindparam("claimed_by"), attempts=leases.c.attempts + 1, expires_at=_UNTIL)
)
_RELEASE = Statement(
    sa.update(leases)
    .where(*_THIS)
    .values(
        holder=NOBODY,
        attempts=sa.bindparam("attempts"),
        not_before=sa.bindparam("not_before"),
        error=sa.bindparam("error"),
    )
)
_CONFIRM = Statement(sa.update(leases).where(*_THIS).values(expires_at=_UNTIL))
_RENEW = Statement(sa.update(leases).where(leases.c.holder == _OWNER).values(expires_at=_UNTIL))
_CANCELLED = Statement(
    sa.select(leases.c.id).where(leases.c.holder == _OWNER, leases.c.cancelled == sa.true())
)
_CANCEL = Statement(
    sa.update(leases)
    .where(leases.c.image_id == sa.bindparam("image"), leases.c.id != sa.bindparam("job"))
    .values(cancelled=sa.true())
)
_HOLDINGS = Statement(
    sa.select(
        leases.c.holder, sa.func.min(leases.c.expires_at), sa.func.max(leases.c.expires_at)
    ).group_by(leases.c.holder)
)


@lru_cache
def _owned(kinds: tuple[str, ...]) -> Statement:
    """Read jobs of an owner, the oldest first."""
    return Statement(
        sa.select(*_COLUMNS, leases.c.expires_at)
        .where(leases.c.holder == _OWNER, _is_one_of(kinds))
        .order_by(leases.c.created_at, leases.c.id)
        .limit(sa.bindparam("most", type_=sa.Integer))
    )


@lru_cache
def _due(kinds: tuple[str, ...]) -> Statement:
    """Read jobs that wait for an owner, and no longer for their time.

    A retry whose time is further away than any pause was recorded by a clock that was wrong.
    """
    column = leases.c.not_before
    is_due = sa.or_(
        column.is_(None),
        column <= sa.bindparam("now"),
        sa.and_(leases.c.attempts > 0, column > sa.bindparam("latest")),
    )
    return Statement(
        sa.select(*_COLUMNS)
        .where(leases.c.holder == NOBODY, _is_one_of(kinds), is_due)
        .order_by(sa.func.coalesce(column, leases.c.created_at), leases.c.id)
        .limit(sa.bindparam("most", type_=sa.Integer))
    )


def _is_one_of(kinds: Sequence[str]) -> sa.ColumnElement[bool]:
    return leases.c.kind.in_([sa.literal(kind) for kind in kinds])


async def record(transaction: Transaction, job: Job, now: datetime, lease_time: float) -> None:
    """Record a job of this process, together with the change that begins it."""
    row = {
        "id": job.id,
        "kind": job.kind,
        "image_id": job.image_id,
        "holder": job.owner,
        "store": job.store,
        "project": job.project,
        "reserved": job.reserved,
        "payload": orjson.dumps(dict(job.payload)).decode() if job.payload else None,
        "attempts": job.attempts,
        "error": job.error,
        "not_before": None,
        "cancelled": job.is_cancelled,
        "created_at": now,
        "expires_at": now + timedelta(seconds=lease_time),
    }
    await transaction.execute(_RECORD, row)


async def end(transaction: Transaction, job: Job) -> bool:
    """Forget the job; False when its owner has no lease on it, or no longer."""
    return await _changed(transaction, _END, job, {})


async def _changed(
    transaction: Transaction, statement: Statement, job: Job, values: Parameters
) -> bool:
    key = {"job": job.id, "held_by": job.owner}
    return (await transaction.execute(statement, {**key, **values})).count == 1


class Jobs:
    """The `JobRepository` of a database that nodes of earlier versions may use, too."""

    def __init__(
        self,
        database: Database,
        lease_time: float = LEASE_TIME,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._database = database
        self._lease_time = lease_time
        self._now = now

    async def add(self, job: Job) -> None:
        await self._database.run(lambda t: record(t, job, self._now(), self._lease_time))

    async def holdings(self) -> Sequence[LeaseHolding]:
        now = self._now()
        earliest = now + timedelta(seconds=self._lease_time / 2)
        latest = now + timedelta(seconds=self._lease_time * 3 / 2)

        def read(found: Rows) -> Sequence[LeaseHolding]:
            return [
                LeaseHolding(owner, earliest <= first and last <= latest)
                for owner, first, last in found.rows
            ]

        return await self._database.fetch(_HOLDINGS, {}, read)

    async def owned(
        self, owner: str, kinds: Sequence[str], most: int
    ) -> Sequence[tuple[Job, object]]:
        return await self._database.fetch(
            _owned(tuple(kinds)), {"held_by": owner, "most": most}, _to_marked_jobs
        )

    async def due(self, kinds: Sequence[str], most: int) -> Sequence[Job]:
        now = self._now()
        latest = now + timedelta(seconds=2 * LONGEST_PAUSE)
        values = {"now": now, "latest": latest, "most": most}
        return await self._database.fetch(_due(tuple(kinds)), values, _to_jobs)

    async def claim(self, job: Job, owner: str) -> Job | None:
        values = {"claimed_by": owner, "until": self._until()}
        if not await self._change(_CLAIM, job, values):
            return None
        return attrs.evolve(job, owner=owner, attempts=job.attempts + 1)

    async def confirm(self, job: Job) -> bool:
        return await self._change(_CONFIRM, job, {"until": self._until()})

    async def release(self, job: Job, pause: float) -> bool:
        not_before = self._now() + timedelta(seconds=pause)
        values = {"attempts": job.attempts, "not_before": not_before, "error": job.error}
        return await self._change(_RELEASE, job, values)

    async def end(self, job: Job) -> bool:
        return await self._change(_END, job, {})

    async def renew(self, owner: str) -> Set[str]:
        values = {"held_by": owner, "until": self._until()}

        async def work(transaction: Transaction) -> Set[str]:
            await transaction.execute(_RENEW, values)
            found = await transaction.execute(_CANCELLED, {"held_by": owner})
            return {job_id for (job_id,) in found.rows}

        return await self._database.run(work)

    async def cancel(self, image_id: str, by: Job) -> None:
        values = {"image": image_id, "job": by.id}
        await self._database.run(lambda transaction: transaction.execute(_CANCEL, values))

    async def _change(self, statement: Statement, job: Job, values: Parameters) -> bool:
        return await self._database.run(lambda t: _changed(t, statement, job, values))

    def _until(self) -> datetime:
        return self._now() + timedelta(seconds=self._lease_time)


def _to_jobs(found: Rows) -> Sequence[Job]:
    return [_to_job(row) for row in found.rows]


def _to_marked_jobs(found: Rows) -> Sequence[tuple[Job, object]]:
    return [(_to_job(row[:-1]), row[-1]) for row in found.rows]


def _to_job(row: Row) -> Job:
    """Return the job of a row of `_COLUMNS`."""
    return attrs.evolve(Job(*row[:-1]), payload=_read_payload(row[-1]))


def _read_payload(text: str | None) -> Mapping[str, object]:
    found: Mapping[str, object] = orjson.loads(text) if text else {}
    return found
