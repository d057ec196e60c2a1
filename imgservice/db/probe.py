"""Checks whether the database can be used, by statements that change nothing."""

import sqlalchemy as sa

from imgservice.db.engine.database import Database, Transaction
from imgservice.db.engine.statement import Statement
from imgservice.db.schema.tables import leases

_READ = Statement(sa.select(leases.c.id).where(leases.c.id == sa.bindparam("lease")))
_WRITE = Statement(sa.delete(leases).where(leases.c.id == sa.bindparam("lease")))
_NONE = {"lease": ""}


async def probe(database: Database, thoroughly: bool) -> None:
    """Read, or with `thoroughly` begin to write; `Unavailable` when that fails."""
    if thoroughly:
        await database.run(_write)
    else:
        await database.fetch(_READ, _NONE, lambda rows: rows.count)


async def _write(transaction: Transaction) -> None:
    await transaction.execute(_WRITE, _NONE)
