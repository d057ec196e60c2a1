"""INSERTs of several rows in one statement, and so in one round trip."""

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.sql.dml import Insert

from imgservice.db.engine.database import Transaction
from imgservice.db.engine.statement import Parameters, Statement

MOST = 64
"""Rows in one statement: each number of rows is a statement of its own, compiled and prepared."""


class Inserts:
    """Inserts rows with these columns, and with values that are the same in all rows."""

    def __init__(self, insert: Insert, *names: str, **same: object) -> None:
        # Otherwise the ids of the rows would be fetched, which are not needed.
        self._insert = insert.inline()
        self._names = names
        self._same = same
        self._statements: dict[int, Statement] = {}

    async def execute(self, transaction: Transaction, rows: Sequence[Parameters]) -> None:
        """Insert the rows; nothing for none."""
        for begin in range(0, len(rows), MOST):
            some = rows[begin : begin + MOST]
            values = {
                f"{name}_{number}": row[name]
                for number, row in enumerate(some)
                for name in self._names
            }
            await transaction.execute(self.statement(len(some)), values)

    def statement(self, count: int) -> Statement:
        """Return the statement for so many rows, whose parameters are numbered."""
        found = self._statements.get(count)
        if found is None:
            rows = [self._row(number) for number in range(count)]
            found = self._statements[count] = Statement(self._insert.values(rows))
        return found

    def _row(self, number: int) -> dict[str, object]:
        row: dict[str, object] = {name: sa.bindparam(f"{name}_{number}") for name in self._names}
        return row | self._same
