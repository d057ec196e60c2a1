"""What a database promises to transactions beyond what the repositories need one by one."""

import uuid
from typing import Any

import pytest_twisted
import sqlalchemy as sa
from twisted.internet.defer import Deferred

from imgservice.db.engine.database import Database, Transaction
from imgservice.db.engine.statement import Statement
from imgservice.db.schema.tables import projects
from tests.contract.databases import database, database_url, sqlite_url

__all__ = ["database", "database_url", "sqlite_url"]  # fixtures

ADD = Statement(sa.insert(projects).values(project=sa.bindparam("project")))
COUNT = Statement(sa.select(sa.func.count()).select_from(projects))


@pytest_twisted.ensureDeferred
async def test_a_reading_transaction_sees_one_moment(database: Database) -> None:
    """Whoever writes in between is not seen, whenever that happens."""
    seen: list[set[int]] = []
    writing = True

    async def read(transaction: Transaction) -> set[int]:
        return {int((await transaction.execute(COUNT, {})).rows[0][0]) for _ in range(20)}

    async def write(transaction: Transaction) -> Any:
        return await transaction.execute(ADD, {"project": uuid.uuid4().hex})

    async def write_on() -> None:
        nonlocal writing
        for _ in range(60):
            await database.run(write)
        writing = False

    written = Deferred.fromCoroutine(write_on())
    while writing:
        seen.append(await database.read(read))
    await written
    assert all(len(counts) == 1 for counts in seen)
    assert len(set().union(*seen)) > 1  # there was something to be seen
