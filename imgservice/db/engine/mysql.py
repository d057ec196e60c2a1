"""MariaDB and MySQL in threads: connecting, beginning transactions, the meaning of errors."""

import ssl
from collections.abc import Mapping
from typing import TypedDict

import pymysql
from pymysql.constants import CLIENT, CR, ER
from sqlalchemy.dialects.mysql.pymysql import MySQLDialect_pymysql
from sqlalchemy.engine import URL

from imgservice.db.engine.blocking import DbapiConnection
from imgservice.db.engine.database import Fault
from imgservice.db.engine.url import UrlError

_FAULTS: Mapping[int, Fault] = {
    ER.DUP_ENTRY: Fault.UNIQUE,
    ER.LOCK_DEADLOCK: Fault.AGAIN,
    ER.LOCK_WAIT_TIMEOUT: Fault.AGAIN,
    1020: Fault.AGAIN,  # record has changed since last read
    1021: Fault.BROKEN,  # disk full
    1114: Fault.BROKEN,  # table full
    ER.CON_COUNT_ERROR: Fault.LOST,
    ER.SERVER_SHUTDOWN: Fault.LOST,
    1927: Fault.LOST,  # connection was killed
    1129: Fault.LOST,  # host is blocked
    1290: Fault.LOST,  # read-only: the server has become a replica
    1969: Fault.BROKEN,  # the statement took too long
    CR.CR_CONNECTION_ERROR: Fault.LOST,
    CR.CR_CONN_HOST_ERROR: Fault.LOST,
    CR.CR_SERVER_GONE_ERROR: Fault.LOST,
    CR.CR_SERVER_LOST: Fault.LOST,
}


class Mysql:
    """One MariaDB or MySQL database; `answer` is how long, in seconds, a statement may take."""

    dialect = MySQLDialect_pymysql(paramstyle="format")
    one_writer = False
    is_embedded = False
    begin_read = (
        "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ",
        "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY",
    )
    begin_write = ("START TRANSACTION",)

    def __init__(self, url: URL, connect: float = 5.0, answer: float = 60.0) -> None:
        self._url = url
        self._connect_timeout = connect
        self._answer_timeout = answer
        self._options = read_options(url.query)

    def connect(self, read_only: bool, waits_for_locks: bool = True) -> DbapiConnection:
        return pymysql.connect(
            host=self._url.host or "localhost",
            port=self._url.port or 3306,
            user=self._url.username,
            password=self._url.password or "",
            database=self._url.database,
            charset="utf8mb4",
            autocommit=True,
            connect_timeout=self._connect_timeout,
            read_timeout=self._answer_timeout,
            write_timeout=self._answer_timeout,
            # The rows that an UPDATE finds, as everywhere else, and not only those it changes.
            client_flag=CLIENT.FOUND_ROWS,
            # A write sees what is there now, and locks no rows that it did not find.
            init_command="SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
            **self._options,
        )

    def fault(self, error: BaseException) -> Fault | None:
        if not isinstance(error, pymysql.MySQLError):
            return None
        code = error.args[0] if error.args else 0
        if isinstance(error, pymysql.InterfaceError):
            return Fault.LOST
        return _FAULTS.get(code) if isinstance(code, int) else None


class MysqlOptions(TypedDict, total=False):
    """The options of a URL, as PyMySQL calls them."""

    unix_socket: str
    ssl: ssl.SSLContext


def read_options(query: Mapping[str, str | tuple[str, ...]]) -> MysqlOptions:
    """Read the part of the URL after the question mark.

    `UrlError` for an option that is unknown or cannot be read.
    """
    options = MysqlOptions()
    for key, value in query.items():
        if key == "unix_socket":
            options["unix_socket"] = str(value)
        elif key == "ssl_ca":
            options["ssl"] = _trusting(str(value))
        elif key != "charset":
            raise UrlError(f"The database URL has the option {key}, which is not known here.")
    return options


def _trusting(file: str) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=file)
    except OSError as error:  # also for what is no certificate
        reason = error.strerror or str(error)
        raise UrlError(f"ssl_ca of the database URL: {file}: {reason}") from None
