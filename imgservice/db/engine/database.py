"""The interface between repositories and databases: transactions, their results, what can fail."""

from collections.abc import Awaitable, Callable, Sequence
from enum import Enum, auto
from typing import Protocol, TypeVar

import attrs

from imgservice.db.engine.statement import Parameters, Row, Statement

T = TypeVar("T")


class UniqueViolation(Exception):
    """A row with the same unique key is already there."""


class Fault(Enum):
    """What an error of the database means for the transaction in which it came."""

    UNIQUE = auto()
    """The statement broke a unique key: the caller's business."""
    AGAIN = auto()
    """Somebody else was in the way; the same transaction may well succeed next time."""
    LOST = auto()
    """The connection is gone; a new one may work."""
    SILENT = auto()
    """The server did not answer in time; whether it did what it was asked to is unknown."""
    BROKEN = auto()
    """The database cannot work: no disk space, no file, damaged."""


@attrs.frozen
class Rows:
    """The whole result of a statement: plain values, nothing that still belongs to a connection."""

    rows: Sequence[Row]
    count: int
    """How many rows an INSERT, UPDATE or DELETE touched."""


class Transaction(Protocol):
    """What runs between the beginning and the end; only for the function that it was given to."""

    async def execute(self, statement: Statement, parameters: Parameters) -> Rows:
        """Run the statement; `UniqueViolation` when it breaks a unique key.

        After an error nothing more can be executed on some databases: let it out.
        """

    async def execute_many(self, statement: Statement, parameters: Sequence[Parameters]) -> None:
        """Run the statement once for each of the parameters; nothing for none."""


Work = Callable[[Transaction], Awaitable[T]]


class Database(Protocol):
    """Runs transactions.

    A transaction is a coroutine function that awaits nothing but its transaction's methods, and
    returns values. It may run more than once: deadlocks, busy and lost connections are retried, so
    it must change nothing outside. What stays broken is raised as `Unavailable`. Cancelling stops
    a transaction that has not begun; one that has goes on to its end.
    """

    async def run(self, work: Work[T]) -> T:
        """Read and write: all of it happens, or, when `work` raises, nothing."""

    async def read(self, work: Work[T]) -> T:
        """Only read, from one snapshot, which may lag behind what was written elsewhere."""

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

        An embedded database answers such a one at once, in the reactor's own thread: going to
        another thread and back would cost several times as much.
        """

    async def close(self) -> None:
        """Let running work end, then let go of all connections; later work is `Unavailable`."""


Tell = Callable[[str], object]
"""Told, in any thread, why the database cannot be used; there is no password in it."""


def told_nobody(why: str) -> None:
    """Where nobody wants to know."""
