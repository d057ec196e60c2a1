"""The `Database` of blocking DBAPI modules: its transactions run in threads of their own."""

from collections.abc import Callable
from time import sleep
from typing import TypeVar

from imgservice.concurrency.reactor import ThreadedReactor
from imgservice.db.engine.blocking import Session, ThreadDriver
from imgservice.db.engine.connection_threads import Completions, ConnectionThreads
from imgservice.db.engine.database import Rows, Tell, Work, told_nobody
from imgservice.db.engine.statement import Parameters, Statement
from imgservice.domain.errors import Unavailable

T = TypeVar("T")


class ThreadedDatabase:
    """A `Database` of which every transaction is one hop to a thread and back."""

    def __init__(
        self,
        driver: ThreadDriver,
        threads: int,
        reactor: ThreadedReactor,
        pause: Callable[[float], object] = sleep,
        tell: Tell = told_nobody,
    ) -> None:
        self._driver = driver
        self._closed = False
        self._here = Session(driver, True, waits_for_locks=False) if driver.is_embedded else None
        completions = Completions(reactor)

        def pool(size: int, read_only: bool, name: str) -> ConnectionThreads:
            sessions = [Session(driver, read_only, pause, tell=tell) for _ in range(size)]
            return ConnectionThreads(sessions, completions, name)

        if driver.one_writer:
            # Our writers queue here, in order, instead of fighting for the database's lock.
            self._writers = pool(1, False, "database-writer")
            self._readers = pool(threads, True, "database-reader")
        else:
            self._writers = self._readers = pool(threads, False, "database")

    async def run(self, work: Work[T]) -> T:
        begin = self._driver.begin_write
        return await self._open(self._writers).submit(lambda session: session.transact(begin, work))

    async def read(self, work: Work[T]) -> T:
        begin = self._driver.begin_read
        return await self._open(self._readers).submit(lambda session: session.transact(begin, work))

    async def fetch(
        self, statement: Statement, parameters: Parameters, convert: Callable[[Rows], T]
    ) -> T:
        return await self._open(self._readers).submit(
            lambda session: session.fetch(statement, parameters, convert)
        )

    async def lookup(
        self, statement: Statement, parameters: Parameters, convert: Callable[[Rows], T]
    ) -> T:
        if self._here is not None and not self._closed:
            found = self._here.fetch_at_once(statement, parameters)
            if found is not None:
                return convert(found)
        return await self.fetch(statement, parameters, convert)

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            if self._here is not None:
                self._here.close()
            for pool in {self._writers, self._readers}:
                await pool.close()

    def _open(self, pool: ConnectionThreads) -> ConnectionThreads:
        if self._closed:
            raise Unavailable("The database is closed.")
        return pool
