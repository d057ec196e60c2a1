"""The usage of projects, counted in one statement, and the lock under which it is counted."""

from collections.abc import Sequence
from functools import lru_cache

import sqlalchemy as sa

from imgservice.db.engine.database import Rows, Transaction
from imgservice.db.engine.statement import Statement
from imgservice.db.schema.tables import image_locations, image_properties, images, leases, projects
from imgservice.domain.job import Job
from imgservice.domain.quota import Quota, Resource, Usage

_GONE = [sa.literal(status) for status in ("killed", "deleted", "pending_delete")]
_UPLOADING = [sa.literal(status) for status in ("saving", "uploading", "importing")]
_STAGED = [sa.literal(status) for status in ("uploading", "importing")]
_COPYING_TO = "os_glance_importing_to_stores"

ADD_PROJECT = Statement(sa.insert(projects).values(project=sa.bindparam("project")))
_LOCK = Statement(
    sa.select(projects.c.project)
    .where(projects.c.project == sa.bindparam("project"))
    .with_for_update()
)
_OF_JOB = Statement(sa.select(leases.c.reserved).where(leases.c.id == sa.bindparam("job")))
_RESERVE = Statement(
    sa.update(leases)
    .where(leases.c.id == sa.bindparam("job"), leases.c.holder == sa.bindparam("held_by"))
    .values(reserved=sa.bindparam("bytes"))
)


class UnknownProject(Exception):
    """The project has no row yet that could be locked."""


def _owned(*conditions: sa.ColumnElement[bool]) -> sa.ColumnElement[bool]:
    return sa.and_(
        images.c.owner == sa.bindparam("project"), images.c.status.not_in(_GONE), *conditions
    )


def _sum(column: sa.Column[int]) -> sa.ColumnElement[int]:
    return sa.func.coalesce(sa.func.sum(column), 0)


def _copying() -> sa.ColumnElement[bool]:
    """The image's data is being copied to further stores."""
    wanted = sa.select(image_properties.c.id).where(
        image_properties.c.image_id == images.c.id,
        image_properties.c.name == _COPYING_TO,
        image_properties.c.value != "",
    )
    return wanted.exists()


# The status decides, here and in Glance, and not the mark of deletion.
_TOTALS: dict[Resource, sa.Select[int]] = {
    Resource.SIZE_TOTAL: sa.select(_sum(images.c.size))
    .select_from(images.join(image_locations, image_locations.c.image_id == images.c.id))
    .where(_owned(images.c.size > 0, image_locations.c.status != "deleted")),
    Resource.STAGE_TOTAL: sa.select(_sum(images.c.size)).where(
        _owned(images.c.size > 0, sa.or_(images.c.status.in_(_STAGED), _copying()))
    ),
    Resource.COUNT_TOTAL: sa.select(sa.func.count()).select_from(images).where(_owned()),
    Resource.COUNT_UPLOADING: sa.select(sa.func.count())
    .select_from(images)
    .where(_owned(sa.or_(images.c.status.in_(_UPLOADING), _copying()))),
}
_RESERVED = sa.select(_sum(leases.c.reserved)).where(leases.c.project == sa.bindparam("project"))


@lru_cache
def usage_statement(resources: tuple[Resource, ...], reserved: bool = False) -> Statement:
    """Return the statement whose one row is the usage of each.

    With `reserved`, the usage of storage includes what running uploads may still add.
    """
    columns = []
    for resource in resources:
        total: sa.ColumnElement[int] = _TOTALS[resource].scalar_subquery()
        if reserved and resource is Resource.SIZE_TOTAL:
            total = total + _RESERVED.scalar_subquery()
        columns.append(total.label(resource.value))
    return Statement(sa.select(*columns))


def to_usage(resources: Sequence[Resource], found: Rows) -> Usage:
    # Some databases return sums as decimal numbers.
    return dict(zip(resources, map(int, found.rows[0]), strict=True))


async def lock(transaction: Transaction, project: str) -> None:
    """Lock the project's usage until the transaction ends; `UnknownProject` if it has no row.

    Call it before anything is read: then the transaction sees what earlier holders of the lock have
    added, whatever the isolation level is.
    """
    if not (await transaction.execute(_LOCK, {"project": project})).rows:
        raise UnknownProject(project)


async def locked_usage(
    transaction: Transaction, quota: Quota, resources: Sequence[Resource]
) -> Usage:
    """Return the usage of the project with its reservations, under the lock."""
    await lock(transaction, quota.project)
    statement = usage_statement(tuple(resources), reserved=True)
    return to_usage(resources, await transaction.execute(statement, {"project": quota.project}))


async def reserved(transaction: Transaction, job_id: str) -> int | None:
    """Return what the upload may take by now; None when its lease is gone."""
    found = (await transaction.execute(_OF_JOB, {"job": job_id})).rows
    return int(found[0][0] or 0) if found else None


async def reserve(transaction: Transaction, job: Job, amount: int) -> bool:
    """Note what the upload may take; False when the job is not, or no longer, its owner's."""
    values = {"job": job.id, "held_by": job.owner, "bytes": amount}
    return (await transaction.execute(_RESERVE, values)).count == 1
