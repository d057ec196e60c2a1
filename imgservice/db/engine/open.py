"""Opens the `Database` of a URL."""

import attrs

from imgservice.concurrency.reactor import Reactor
from imgservice.db.engine.blocking import ThreadDriver
from imgservice.db.engine.database import Database, Tell, told_nobody
from imgservice.db.engine.pool import PoolLimits
from imgservice.db.engine.reactor import ReactorDatabase
from imgservice.db.engine.sqlite import Sqlite
from imgservice.db.engine.threaded import ThreadedDatabase
from imgservice.db.engine.url import libpq_parameters, parse_url, sqlite_path


@attrs.frozen
class DatabaseLimits:
    """The numbers of threads and connections, and the timeouts."""

    threads: int = 2
    """Reads of an embedded database at the same time."""
    pool: PoolLimits = PoolLimits()


def open_database(
    url: str, limits: DatabaseLimits, reactor: Reactor, tell: Tell = told_nobody
) -> Database:
    """Return the database of the URL, whose tables `upgrade` has created or upgraded.

    `UrlError` when the URL is invalid. Transactions fail when the database cannot be reached, and
    `tell` is given the reason. The caller closes it.
    """
    kind, parsed = parse_url(url)
    pool = limits.pool
    if kind == "postgresql":
        from imgservice.db.engine.postgresql import Postgresql

        return ReactorDatabase(Postgresql(libpq_parameters(parsed)), reactor, pool, tell)
    driver: ThreadDriver
    threads = limits.threads
    if kind == "mysql":
        from imgservice.db.engine.mysql import Mysql

        driver, threads = Mysql(parsed, pool.connect, pool.answer), pool.connections
    else:
        driver = Sqlite(sqlite_path(url))
    return ThreadedDatabase(driver, threads, reactor, tell=tell)
