"""The interface of databases: transactions, their results, and their errors."""

from collections.abc import Awaitable, Callable, Sequence
from enum import Enum, auto
from typing import Protocol, TypeVar

import attrs

from imgservice.db.engine.statement import Parameters, Row, Statement

T = TypeVar("T")


class UniqueViolation(Exception):
    """A row with the same unique key exists."""


class Fault(Enum):
    """What an error of the database means for the transaction that it interrupted."""

    UNIQUE = auto()
    """The statement violated a unique key, which the caller handles."""
    AGAIN = auto()
    """It collided with another transaction; the same one may succeed next time."""
    LOST = auto()
    """The connection is gone; a new one may work."""
    SILENT = auto()
    """The server did not answer in time; whether it did what it was asked to is unknown."""
    BROKEN = auto()
    """The database does not work: no disk space, no file, damaged."""


@attrs.frozen
class Rows:
    """The whole result of a statement: plain values, nothing that still belongs to a connection."""

    rows: Sequence[Row]
    count: int
    """How many rows an INSERT, UPDATE or DELETE touched."""


class Transaction(Protocol):
    """An open transaction; only for the function that it was given to."""

    async def execute(self, statement: Statement, parameters: Parameters) -> Rows:
        """Run the statement; `UniqueViolation` when it violates a unique key.

        Let errors out of the transaction: after one, some databases execute nothing more.
        """

    async def execute_many(self, statement: Statement, parameters: Sequence[Parameters]) -> None:
        """Run the statement once for each of the parameters; nothing for none."""


Work = Callable[[Transaction], Awaitable[T]]


class Database(Protocol):
    """Runs transactions.

    A transaction is a coroutine function that awaits nothing but its transaction's methods, and
    returns values. It may run more than once: it is retried after deadlocks, locks and lost
    connections, so it must change nothing outside. Lasting failures raise `Unavailable`. Cancelling
    stops a transaction that has not begun; one that has begun continues to its end.
    """

    async def run(self, work: Work[T]) -> T:
        """Read and write; nothing is written when `work` raises."""

    async def read(self, work: Work[T]) -> T:
        """Only read, from one snapshot."""

    async def fetch(
        self, statement: Statement, parameters: Parameters, convert: Callable[[Rows], T]
    ) -> T:
        """Return `convert` of what one statement reads: the cheapest way to read.

        `convert` may run in any thread.
        """

    async def lookup(
        self, statement: Statement, parameters: Parameters, convert: Callable[[Rows], T]
    ) -> T:
        """Do as `fetch`, for a statement that finds a few rows by their keys.

        An embedded database answers it in the reactor's own thread: a thread and back would cost
        several times as much.
        """

    async def close(self) -> None:
        """Wait for what runs, then close all connections; later work raises `Unavailable`."""


Tell = Callable[[str], object]
"""Called, in any thread, with the reason why the database cannot be used, without passwords."""


def told_nobody(why: str) -> None:
    """Ignore the reason."""
