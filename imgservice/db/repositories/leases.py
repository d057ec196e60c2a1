"""Leases as rows of our own table."""

from datetime import datetime

import sqlalchemy as sa

from imgservice.db.engine.database import Transaction
from imgservice.db.engine.statement import Parameters, Row, Statement
from imgservice.db.schema.tables import leases
from imgservice.domain.lease import Lease

_RECORD = Statement(
    sa.insert(leases).values({column.name: sa.bindparam(column.name) for column in leases.c})
)
_END = Statement(
    sa.delete(leases).where(
        leases.c.id == sa.bindparam("lease"), leases.c.holder == sa.bindparam("held_by")
    )
)
_TAKE = Statement(
    sa.update(leases)
    .where(leases.c.id == sa.bindparam("lease"), leases.c.holder == sa.bindparam("held_by"))
    .values(holder=sa.bindparam("taken_by"), expires_at=sa.bindparam("until"))
)
_RENEW = Statement(
    sa.update(leases)
    .where(leases.c.holder == sa.bindparam("held_by"))
    .values(expires_at=sa.bindparam("until"))
)
ALL = Statement(
    sa.select(
        leases.c.id,
        leases.c.kind,
        leases.c.image_id,
        leases.c.holder,
        leases.c.store,
        leases.c.project,
        leases.c.reserved,
        leases.c.expires_at,
    ).order_by(leases.c.created_at, leases.c.id)
)


async def record(transaction: Transaction, lease: Lease, now: datetime, until: datetime) -> None:
    await transaction.execute(
        _RECORD,
        {
            "id": lease.id,
            "kind": lease.kind,
            "image_id": lease.image_id,
            "holder": lease.holder,
            "store": lease.store,
            "project": lease.project,
            "reserved": lease.reserved,
            "created_at": now,
            "expires_at": until,
        },
    )


async def end(transaction: Transaction, lease: Lease) -> bool:
    """Forget the lease; False when it is not, or no longer, its holder's."""
    return await _changed(transaction, _END, lease, {})


async def take(transaction: Transaction, lease: Lease, holder: str, until: datetime) -> bool:
    """Give the lease to another holder; False when it is not, or no longer, its holder's."""
    return await _changed(transaction, _TAKE, lease, {"taken_by": holder, "until": until})


async def renew(transaction: Transaction, holder: str, until: datetime) -> None:
    await transaction.execute(_RENEW, {"held_by": holder, "until": until})


async def _changed(
    transaction: Transaction, statement: Statement, lease: Lease, values: Parameters
) -> bool:
    key = {"lease": lease.id, "held_by": lease.holder}
    return (await transaction.execute(statement, {**key, **values})).count == 1


def to_lease(row: Row) -> tuple[Lease, datetime]:
    """Return the lease of a row of `ALL`, and when it expires."""
    return Lease(*row[:-1]), row[-1]
