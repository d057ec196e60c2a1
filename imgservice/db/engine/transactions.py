"""Transactions and retries, the same for all drivers.

They are coroutines. On connections of the reactor they wait; on blocking connections they never
suspend, and a thread runs them from beginning to end.
"""

import random
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Protocol, TypeVar

from sqlalchemy import Dialect

from imgservice.db.engine.database import Fault, Rows, Tell, UniqueViolation, Work
from imgservice.db.engine.statement import Compiled, Parameters, Statement
from imgservice.domain.errors import Unavailable

T = TypeVar("T")

RETRY_PAUSES = (0.01, 0.05, 0.2, 0.5)
"""The longest waits, in seconds, before each further attempt at a transaction."""
_UNAVAILABLE = "The database is not available."


class DatabaseConnection(Protocol):
    """A connection that leaves transactions to us."""

    async def execute(self, compiled: Compiled, values: list[object]) -> Rows: ...

    async def execute_many(self, compiled: Compiled, values: Sequence[list[object]]) -> None: ...

    async def command(self, sql: str) -> None:
        """Run what has neither parameters nor rows."""

    @property
    def is_usable(self) -> bool:
        """Whether it can be used again; not once it is closed."""

    def close(self) -> None:
        """Close the connection, which rolls back what is open; harmless when it is closed."""


class DatabaseKind(Protocol):
    """What transactions need to know about one kind of database."""

    @property
    def dialect(self) -> Dialect: ...

    @property
    def begin_read(self) -> Sequence[str]:
        """The commands that begin a transaction that only reads, from one snapshot."""

    @property
    def begin_write(self) -> Sequence[str]: ...

    def fault(self, error: BaseException) -> Fault | None:
        """Return what the error means; None when it is not the database's."""


class NoAnswer(Exception):
    """The database has not answered for too long."""

    def __init__(self) -> None:
        super().__init__("it does not answer")


class OpenTransaction:
    """The `Transaction` on a connection between its beginning and its end."""

    def __init__(self, connection: DatabaseConnection, kind: DatabaseKind) -> None:
        self._connection = connection
        self._kind = kind
        self._ended = False

    async def execute(self, statement: Statement, parameters: Parameters) -> Rows:
        compiled = statement.compiled(self._kind.dialect)
        values = compiled.values(parameters)
        return await self._translated(self._open().execute(compiled, values))

    async def execute_many(self, statement: Statement, parameters: Sequence[Parameters]) -> None:
        if parameters:
            compiled = statement.compiled(self._kind.dialect)
            values = [compiled.values(each) for each in parameters]
            await self._translated(self._open().execute_many(compiled, values))

    def end(self) -> None:
        self._ended = True

    def _open(self) -> DatabaseConnection:
        if self._ended:
            raise RuntimeError("The transaction has ended")
        return self._connection

    async def _translated(self, executed: Awaitable[T]) -> T:
        try:
            return await executed
        except Exception as error:
            if self._kind.fault(error) is Fault.UNIQUE:
                raise UniqueViolation(str(error)) from error
            raise


class Attempts:
    """Runs transactions on one kind of database, and repeats those that may succeed next time.

    Lasting failures raise `Unavailable`, and `tell` is given the reason.
    """

    def __init__(
        self, kind: DatabaseKind, pause: Callable[[float], Awaitable[object]], tell: Tell
    ) -> None:
        self._kind = kind
        self._pause = pause
        self._tell = tell

    async def repeat(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Return the result of the first attempt that succeeds; repeat those that may next time."""
        pauses = retry_pauses()
        while True:
            try:
                return await attempt()
            except Exception as error:
                self._check_retryable(error)
                pause = next(pauses, None)
                if pause is None:
                    raise self._unavailable(error) from error
            await self._pause(pause)

    async def transact(
        self, connection: DatabaseConnection, begin: Sequence[str], work: Work[T]
    ) -> T:
        """Run one transaction and commit it, or roll it back and raise the error."""
        for command in begin:
            await connection.command(command)
        transaction = OpenTransaction(connection, self._kind)
        try:
            value = await work(transaction)
        except BaseException as error:
            await self._roll_back(connection, error)
            raise
        finally:
            transaction.end()
        await self._commit(connection)
        return value

    def is_sound(self, error: BaseException) -> bool:
        """Tell whether a connection can be used again after the error."""
        return self._fault(error) in (None, Fault.UNIQUE, Fault.AGAIN)

    async def _commit(self, connection: DatabaseConnection) -> None:
        try:
            await connection.command("COMMIT")
        except Exception as error:
            if self._fault(error) in (Fault.LOST, Fault.SILENT):
                # It may have been committed or not: a second attempt could do everything twice.
                connection.close()
                self._tell(reason_of(error))
                raise Unavailable("The database went away during a commit.") from error
            await self._roll_back(connection, error)
            raise

    async def _roll_back(self, connection: DatabaseConnection, error: BaseException) -> None:
        try:
            if self.is_sound(error):
                await connection.command("ROLLBACK")
                return
        except Exception:  # noqa: S110 - the first error is the one to raise
            pass
        connection.close()

    def _check_retryable(self, error: Exception) -> None:
        """Return when another attempt makes sense; otherwise raise the error for the caller."""
        fault = self._fault(error)
        if fault is None or fault is Fault.UNIQUE:
            raise error
        if fault in (Fault.BROKEN, Fault.SILENT):
            raise self._unavailable(error) from error

    def _fault(self, error: BaseException) -> Fault | None:
        return Fault.SILENT if isinstance(error, NoAnswer) else self._kind.fault(error)

    def _unavailable(self, error: BaseException) -> Unavailable:
        self._tell(reason_of(error))
        return Unavailable(_UNAVAILABLE)


def reason_of(error: BaseException) -> str:
    """Return the database's message in one line, without the statement and its values."""
    text = error.args[-1] if error.args else ""
    first = str(text).strip().partition("\n")[0]
    return first or type(error).__name__


def retry_pauses() -> Iterator[float]:
    """Yield a pause for each further attempt, of random length.

    So transactions that collided do not collide again in step.
    """
    for pause in RETRY_PAUSES:
        yield random.uniform(pause / 4, pause)  # noqa: S311 - no secret
