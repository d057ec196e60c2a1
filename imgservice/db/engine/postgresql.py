"""PostgreSQL: connections that wait in the reactor, without threads."""

import os
from collections.abc import Callable, Generator, Mapping, Sequence
from time import monotonic
from typing import TypeVar, cast

import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.pq import Conninfo, ConnStatus, ExecStatus, PollingStatus
from psycopg.pq import PGconn as new_pgconn
from psycopg.pq.abc import PGconn
from psycopg.waiting import Ready, Wait
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.engine import URL
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReadWriteDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from imgservice.concurrency.reactor import DescriptorReactor, Reactor, ResolvingReactor
from imgservice.db.engine.database import Fault, Rows
from imgservice.db.engine.statement import Compiled, Row
from imgservice.db.engine.url import UrlError
from imgservice.net.names import lookup

T = TypeVar("T")

_STATES: Mapping[str, Fault] = {
    "23505": Fault.UNIQUE,
    "40001": Fault.AGAIN,  # serialization failure
    "40P01": Fault.AGAIN,  # deadlock
    "55P03": Fault.AGAIN,  # lock not available
    "0A000": Fault.AGAIN,  # "cached plan must not change result type", after DDL
    "26000": Fault.LOST,  # a prepared statement is missing: there is a pooler in between
    "57014": Fault.BROKEN,  # the statement took too long
    "53100": Fault.BROKEN,  # disk full
    "53200": Fault.BROKEN,  # out of memory
    "25006": Fault.LOST,  # read-only: the server has become a replica
}
_CLASSES: Mapping[str, Fault] = {
    "08": Fault.LOST,  # connection exceptions
    "57": Fault.LOST,  # shutting down, starting up, connection ended by an administrator
    "53": Fault.LOST,  # too many connections
    "58": Fault.BROKEN,  # errors of the system below
    "XX": Fault.BROKEN,  # internal errors, damaged data
}
_WANTED = {PollingStatus.READING: Wait.R, PollingStatus.WRITING: Wait.W}


PREPARED = 1000
"""Prepared statements that a connection keeps."""


@implementer(IReadWriteDescriptor)
class Waiter:
    """Lets one coroutine at a time wait for a socket; calls `idle` for events without a waiter.

    It watches a duplicate of the descriptor: libpq closes a broken one itself, and the reactor
    would watch whatever gets its number next.
    """

    def __init__(self, reactor: DescriptorReactor, descriptor: int) -> None:
        self._reactor = reactor
        self._descriptor = os.dup(descriptor)
        self._waiting: Deferred[Ready] | None = None
        self._writes = False
        self.idle: Callable[[], object] = lambda: None
        reactor.addReader(self)

    def until(self, wanted: Wait) -> Deferred[Ready]:
        """Fire when the socket is readable, or, if that is wanted, when it is writable."""
        self._waiting = Deferred()
        if wanted & Wait.W:
            self._reactor.addWriter(self)
            self._writes = True
        return self._waiting

    def fail(self, error: Exception) -> None:
        """Raise the error in the coroutine that waits."""
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.errback(Failure(error))  # type: ignore[no-untyped-call]

    def close(self) -> None:
        if self._descriptor >= 0:
            self._reactor.removeReader(self)
            self._reactor.removeWriter(self)
            os.close(self._descriptor)
            self._descriptor = -1

    def fileno(self) -> int:
        return self._descriptor

    def logPrefix(self) -> str:
        return "postgresql"

    def connectionLost(self, reason: Failure) -> None:
        """Called when the reactor finds the descriptor broken."""
        self._fire(Ready.R)

    def doRead(self) -> None:
        self._fire(Ready.R)

    def doWrite(self) -> None:
        self._fire(Ready.W)

    def _fire(self, ready: Ready) -> None:
        if self._descriptor < 0:
            return  # closed by the first of two events in one turn of the reactor
        if self._writes:
            self._writes = False
            self._reactor.removeWriter(self)
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(ready)
        else:
            self.idle()


class WaitingConnection(psycopg.AsyncConnection[Row]):
    """psycopg's connection, waiting in the reactor instead of asyncio's loop."""

    waiter: Waiter

    async def wait(
        self, gen: Generator[Wait, Ready, T], interval: float = 0.0, timeout: float | None = None
    ) -> T:
        """Drive one of psycopg's generators; the only timeout is the pool's."""
        try:
            wanted = next(gen)
            while True:
                wanted = gen.send(await self.waiter.until(wanted))
        except StopIteration as end:
            return cast(T, end.value)


class PostgresqlConnection:
    """One connection, as the pool and its transactions use it."""

    def __init__(self, connection: WaitingConnection) -> None:
        self._connection = connection
        self._cursor = connection.cursor()
        self.asked_at = monotonic()

    async def execute(self, compiled: Compiled, values: list[object]) -> Rows:
        self.asked_at = monotonic()
        cursor = self._cursor
        await cursor.execute(compiled.sql, values, prepare=True)
        result = cursor.pgresult  # its `description` is computed anew each time
        has_rows = result is not None and result.status == ExecStatus.TUPLES_OK
        raw = await cursor.fetchall() if has_rows else ()
        return Rows(compiled.rows(raw), cursor.rowcount)

    async def execute_many(self, compiled: Compiled, values: Sequence[list[object]]) -> None:
        if len(values) == 1:  # a pipeline costs as much as a statement, and saves nothing here
            await self.execute(compiled, values[0])
        else:
            self.asked_at = monotonic()
            await self._cursor.executemany(compiled.sql, values)

    async def command(self, sql: str) -> None:
        self.asked_at = monotonic()
        await self._cursor.execute(sql)

    @property
    def is_usable(self) -> bool:
        return not self._connection.closed

    def watch(self, lost: Callable[[], object]) -> None:
        def look() -> None:
            try:
                self._connection.pgconn.consume_input()
            except psycopg.Error:
                lost()

        self._connection.waiter.idle = look

    def abort(self, error: Exception) -> None:
        self._connection.waiter.fail(error)

    def close(self) -> None:
        self._connection.waiter.close()
        self._connection.pgconn.finish()


class Postgresql:
    """One PostgreSQL database, with libpq's connection parameters."""

    dialect = PGDialect_psycopg(paramstyle="format")  # type: ignore[no-untyped-call]
    begin_read = ("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",)
    begin_write = ("BEGIN ISOLATION LEVEL READ COMMITTED",)

    def __init__(self, conninfo: Mapping[str, str]) -> None:
        self._conninfo = conninfo

    async def connect(self, reactor: Reactor) -> PostgresqlConnection:
        conninfo = await _with_addresses(reactor, self._conninfo)
        pgconn = new_pgconn.connect_start(make_conninfo(**conninfo).encode())
        try:
            await _connected(reactor, pgconn)
        except BaseException:
            pgconn.finish()
            raise
        pgconn.nonblocking = 1
        connection = WaitingConnection(pgconn)
        connection.waiter = Waiter(reactor, pgconn.socket)
        await connection.set_autocommit(True)
        connection.prepare_threshold = 0
        connection.prepared_max = PREPARED
        return PostgresqlConnection(connection)

    def fault(self, error: BaseException) -> Fault | None:
        if not isinstance(error, psycopg.Error):
            return None
        state = error.sqlstate
        if state is None:
            lost = isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)
            return Fault.LOST if lost else None
        return _STATES.get(state) or _CLASSES.get(state[:2])


async def _connected(reactor: DescriptorReactor, pgconn: PGconn) -> None:
    """Wait until the connection is made; the socket may change in between."""
    while pgconn.status != ConnStatus.BAD:
        polled = pgconn.connect_poll()
        if polled == PollingStatus.OK:
            return
        if polled == PollingStatus.FAILED:
            break
        waiter = Waiter(reactor, pgconn.socket)
        try:
            await waiter.until(_WANTED[PollingStatus(polled)])
        finally:
            waiter.close()
    raise psycopg.OperationalError(pgconn.error_message.decode("utf-8", "replace").strip())


async def _with_addresses(
    reactor: ResolvingReactor, conninfo: Mapping[str, str]
) -> Mapping[str, str]:
    """Add the addresses of the hosts: libpq would block while it resolves them."""
    hosts, ports = conninfo.get("host", "").split(","), conninfo.get("port", "").split(",")
    if not any(hosts) or "hostaddr" in conninfo or all(map(_needs_no_resolving, hosts)):
        return conninfo
    places = [
        (host, address, ports[at] if len(ports) > 1 else ports[0])
        for at, host in enumerate(hosts)
        for address in ([""] if _needs_no_resolving(host) else await lookup(reactor, host))
    ]
    if not places:
        raise psycopg.OperationalError(f"no address found for {conninfo['host']}")
    names, addresses, numbers = (",".join(column) for column in zip(*places, strict=True))
    return {**conninfo, "host": names, "hostaddr": addresses, "port": numbers}


def _needs_no_resolving(host: str) -> bool:
    return not host or host.startswith(("/", "@")) or isIPAddress(host) or isIPv6Address(host)


def check_options(url: URL) -> None:
    """Raise `UrlError` for options in the URL that libpq does not know."""
    known = {option.keyword.decode() for option in Conninfo.get_defaults()}
    for name in url.query:
        if name not in known and "password" in url.query:  # it may be a part of the password
            raise UrlError(
                "The database URL has an option that libpq does not know: in a password write %26"
                " for & and %3D for =."
            )
        if name not in known:
            raise UrlError(f"The database URL has the option {name}, which libpq does not know.")
