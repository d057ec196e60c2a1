"""The `Database` whose connections belong to the reactor: no thread, a pool of connections."""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from twisted.internet.defer import Deferred

from imgservice.concurrency.reactor import Reactor, sleep
from imgservice.db.engine.database import Rows, Tell, Work, told_nobody
from imgservice.db.engine.pool import Pool, PooledConnection, PoolLimits, ReactorDriver
from imgservice.db.engine.statement import Parameters, Statement
from imgservice.db.engine.transactions import Attempts

T = TypeVar("T")


class ReactorDatabase:
    """A `Database` whose statements wait in the reactor."""

    def __init__(
        self, driver: ReactorDriver, reactor: Reactor, limits: PoolLimits, tell: Tell = told_nobody
    ) -> None:
        self._driver = driver
        self._pool = Pool(driver, reactor, limits, tell)
        self._attempts = Attempts(driver, lambda seconds: sleep(reactor, seconds), tell)

    async def run(self, work: Work[T]) -> T:
        return await self._transact(self._driver.begin_write, work)

    async def read(self, work: Work[T]) -> T:
        return await self._transact(self._driver.begin_read, work)

    async def fetch(
        self, statement: Statement, parameters: Parameters, convert: Callable[[Rows], T]
    ) -> T:
        compiled = statement.compiled(self._driver.dialect)
        values = compiled.values(parameters)
        return convert(await self._repeat(lambda one: one.execute(compiled, values)))

    async def lookup(
        self, statement: Statement, parameters: Parameters, convert: Callable[[Rows], T]
    ) -> T:
        return await self.fetch(statement, parameters, convert)

    async def close(self) -> None:
        await self._pool.close()

    def _transact(self, begin: Sequence[str], work: Work[T]) -> Awaitable[T]:
        return self._repeat(lambda one: self._attempts.transact(one, begin, work))

    def _repeat(self, attempt: Callable[[PooledConnection], Awaitable[T]]) -> Awaitable[T]:
        return self._attempts.repeat(lambda: self._attempt(attempt))

    async def _attempt(self, attempt: Callable[[PooledConnection], Awaitable[T]]) -> T:
        connection = await self._pool.take()
        outcome: Deferred[T] = Deferred()
        using: Deferred[T] = Deferred.fromCoroutine(self._use(connection, attempt))
        using.addBoth(lambda result: None if outcome.called else outcome.callback(result))
        return await outcome  # whoever cancels it leaves; the transaction goes on to its end

    async def _use(
        self, connection: PooledConnection, attempt: Callable[[PooledConnection], Awaitable[T]]
    ) -> T:
        try:
            value = await attempt(connection)
        except BaseException as error:
            if self._attempts.is_sound(error):
                self._pool.give(connection)
            else:
                self._pool.drop(connection)
            raise
        self._pool.give(connection)
        return value
