"""From a URL to a `Database`."""

from twisted.internet.interfaces import IReactorFromThreads

from imgservice.db.database import Database
from imgservice.db.sqlite import Sqlite
from imgservice.db.threaded import ThreadedDatabase
from imgservice.db.url import sqlite_path


def open_database(url: str, threads: int, reactor: IReactorFromThreads) -> Database:
    """Return the database of the URL, which `upgrade` has brought to its present shape.

    `threads` is how many reads can run at once. `UrlError` when the URL names nothing usable; a
    database that cannot be reached shows only with the first transaction. The caller closes it.
    """
    return ThreadedDatabase(Sqlite(sqlite_path(url)), threads, reactor)
