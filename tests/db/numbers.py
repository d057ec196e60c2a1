"""A table of numbers on a database of every kind, for the tests of the database drivers."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import attrs
import sqlalchemy as sa
from twisted.internet import reactor as installed_reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.protocols.portforward import ProxyFactory, ProxyServer

from imgservice.db.engine.database import Database, Transaction
from imgservice.db.engine.statement import Statement
from tests.servers import Server

reactor: Any = installed_reactor

numbers = sa.Table(
    "numbers",
    sa.MetaData(),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("text", sa.Text, nullable=False),
)
ADD = Statement(sa.insert(numbers).values(number=sa.bindparam("number"), text=sa.bindparam("text")))
ALL = Statement(sa.select(numbers.c.number).order_by(numbers.c.number))
CHANGE = Statement(
    sa.update(numbers)
    .where(numbers.c.number == sa.bindparam("which"))
    .values(text=sa.bindparam("to"))
)


def _sleep(function: Callable[[Any], Any]) -> Statement:
    return Statement(sa.select(function(sa.bindparam("seconds", type_=sa.Float))))


@attrs.frozen
class Kind:
    """What differs between the servers."""

    driver: str
    sleep: Statement
    who: Statement
    """Tells the number of a connection."""
    kill: str
    """Ends the connection with that number."""


KINDS = {
    "postgresql": Kind(
        "postgresql+psycopg",
        _sleep(sa.func.pg_sleep),
        Statement(sa.select(sa.func.pg_backend_pid())),
        "SELECT pg_terminate_backend({})",
    ),
    "mariadb": Kind(
        "mysql+pymysql",
        _sleep(sa.func.sleep),
        Statement(sa.select(sa.func.connection_id())),
        "KILL {}",
    ),
}


@attrs.frozen
class Place:
    """A database with the table, and another program that uses it."""

    name: str
    url: str
    engine: Any
    server: Server | None = None

    @property
    def kind(self) -> Kind:
        return KINDS[self.name]

    def outside(self, *statements: str) -> None:
        """Do something to it from elsewhere."""
        with self.engine.begin() as connection:
            for statement in statements:
                connection.exec_driver_sql(statement)

    @contextmanager
    def held(self, number: int) -> Iterator[None]:
        """Let whoever adds the number wait, while the block runs, for somebody who thinks better
        of it."""
        with self.engine.connect() as connection:
            connection.execute(sa.insert(numbers).values(number=number, text="held"))
            yield


@contextmanager
def on_server(name: str, server: Server, database: str) -> Iterator[Place]:
    """Make the database on the server."""
    url = server.create(database)
    made = sa.make_url(url).set(drivername=KINDS[name].driver)
    engine = sa.create_engine(made, poolclass=sa.NullPool)
    numbers.metadata.create_all(engine)
    yield Place(name, url, engine, server)
    engine.dispose()


class Line(ProxyFactory):
    """A way to a server that is cut, `times` times, when what is said on it has `words` in it."""

    def __init__(self, port: int) -> None:
        super().__init__("127.0.0.1", port)
        self.protocol = _Half
        self.words = re.compile(b"")
        self.times = 0
        self.connections = 0

    def cut(self, words: str, times: int) -> None:
        """Begin to cut, and to count connections; `words` is a regular expression."""
        self.words, self.times, self.connections = re.compile(words.encode()), times, 0

    def buildProtocol(self, addr: Any) -> Any:
        self.connections += 1
        return super().buildProtocol(addr)

    def bears(self, data: bytes) -> bool:
        if not self.times or not self.words.search(data):
            return True
        self.times -= 1
        return False


class _Half(ProxyServer):
    factory: Line
    peer: Any

    def dataReceived(self, data: bytes) -> None:
        if self.factory.bears(data):
            super().dataReceived(data)
        else:
            self.transport.abortConnection()
            self.peer.transport.abortConnection()


def started(coroutine: Any) -> Deferred[Any]:
    return Deferred.fromCoroutine(coroutine)


async def until(happened: Callable[[], object], seconds: float = 60.0) -> None:
    """Wait for something that must come to pass."""
    deadline = reactor.seconds() + seconds
    while not happened():
        assert reactor.seconds() < deadline, "it did not come to pass"
        await deferLater(reactor, 0.01)


async def add(database: Database, number: int, text: str = "x") -> None:
    await database.run(lambda t: t.execute(ADD, {"number": number, "text": text}))


async def add_all(transaction: Transaction, *values: int) -> int:
    """Add them in a transaction, and return their sum."""
    for value in values:
        await transaction.execute(ADD, {"number": value, "text": "x"})
    return sum(values)


async def present(database: Database) -> list[int]:
    return await database.fetch(ALL, {}, lambda found: [number for (number,) in found.rows])


async def number_of_connection(place: Place, database: Database) -> int:
    """Return the number of the connection that the database uses now."""
    return int(await database.fetch(place.kind.who, {}, lambda found: found.rows[0][0]))
