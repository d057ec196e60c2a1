"""SQLite in threads: connecting, beginning transactions, the meaning of errors."""

import sqlite3
from collections.abc import Mapping
from pathlib import Path

from sqlalchemy.dialects.sqlite import dialect as sqlite_dialect

from imgservice.db.engine.database import Fault

BUSY_TIMEOUT = 5.0
"""Seconds for which SQLite itself waits for another process that writes."""

_FAULTS: Mapping[int, Fault] = {
    sqlite3.SQLITE_CONSTRAINT_UNIQUE: Fault.UNIQUE,
    sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY: Fault.UNIQUE,
    sqlite3.SQLITE_BUSY: Fault.AGAIN,
    sqlite3.SQLITE_LOCKED: Fault.AGAIN,
    sqlite3.SQLITE_PROTOCOL: Fault.AGAIN,
    sqlite3.SQLITE_SCHEMA: Fault.AGAIN,
    sqlite3.SQLITE_CANTOPEN: Fault.BROKEN,
    sqlite3.SQLITE_CORRUPT: Fault.BROKEN,
    sqlite3.SQLITE_FULL: Fault.BROKEN,
    sqlite3.SQLITE_IOERR: Fault.BROKEN,
    sqlite3.SQLITE_NOTADB: Fault.BROKEN,
    sqlite3.SQLITE_PERM: Fault.BROKEN,
    sqlite3.SQLITE_READONLY: Fault.BROKEN,
}


class Sqlite:
    """One SQLite file."""

    dialect = sqlite_dialect(paramstyle="qmark")
    one_writer = True
    is_embedded = True
    begin_read = ("BEGIN",)
    # The write lock from the start: a transaction that reads first and then finds the database
    # changed could not go on.
    begin_write = ("BEGIN IMMEDIATE",)

    def __init__(self, path: Path, busy_timeout: float = BUSY_TIMEOUT) -> None:
        self._path = path
        self._busy_timeout = busy_timeout

    def connect(self, read_only: bool, waits_for_locks: bool = True) -> sqlite3.Connection:
        return connect(self._path, "rw", self._busy_timeout if waits_for_locks else 0.0, read_only)

    def fault(self, error: BaseException) -> Fault | None:
        # Kept by the exception since Python 3.11; errors of the module itself have none.
        code = getattr(error, "sqlite_errorcode", None)
        if code is None or not isinstance(error, sqlite3.Error):
            return None
        return _FAULTS.get(code) or _FAULTS.get(code & 0xFF)


def open_file(path: Path, mode: str, busy_timeout: float) -> sqlite3.Connection:
    """Open the file as it is; mode "rwc" creates it, "rw" does not.

    Beginning and ending transactions is left to the caller.
    """
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        timeout=busy_timeout,
        isolation_level=None,
        cached_statements=512,
        uri=True,
    )


def connect(
    path: Path, mode: str, busy_timeout: float = BUSY_TIMEOUT, read_only: bool = False
) -> sqlite3.Connection:
    """Open the file for the service's own work: readers and a writer side by side."""
    connection = open_file(path, mode, busy_timeout)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA cache_size = -8000")  # KiB: pages of a large database
        if read_only:
            connection.execute("PRAGMA query_only = ON")
    except BaseException:
        connection.close()
        raise
    return connection
