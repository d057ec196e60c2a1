"""Reads the URL of the database."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

_KINDS: Mapping[str, str] = {
    "sqlite": "sqlite",
    "postgresql": "postgresql",
    "postgres": "postgresql",
    "mysql": "mysql",
    "mariadb": "mysql",
}
"""What URLs begin with; the name of a Python driver may follow after a +, as in Glance's."""


class UrlError(ValueError):
    """The URL cannot be used; the message never contains a password."""


def parse_url(url: str) -> tuple[str, URL]:
    """Return "sqlite", "postgresql" or "mysql", and the parts of the URL."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise UrlError("The database URL cannot be understood.") from None
    kind = _KINDS.get(parsed.drivername.partition("+")[0])
    if kind != "sqlite":
        _check_account(url, parsed)
    if kind is None:
        raise UrlError(
            f"The database URL begins with {parsed.drivername}:"
            " sqlite, postgresql and mysql are known."
        )
    if kind != "sqlite" and not parsed.database:
        raise UrlError("The database URL does not name a database, as in …://host/name.")
    return kind, parsed


def database_address(url: str) -> str:
    """Return where the database is, for messages, without user and password."""
    kind, parsed = parse_url(url)
    if kind == "sqlite":
        return str(parsed.database)
    asked = parsed.query
    host = parsed.host or asked.get("host") or asked.get("unix_socket") or "a local socket"
    hosts = host if isinstance(host, str) else ", ".join(host)
    port = f":{parsed.port}" if parsed.port else ""
    return f"{hosts}{port}/{parsed.database}"


def _check_account(url: str, parsed: URL) -> None:
    """Raise `UrlError` where part of a password would be taken for a host, which messages name."""
    if any("\0" in (part or "") for part in (parsed.username, parsed.password, parsed.database)):
        raise UrlError("The database URL has a zero byte, %00, which is not allowed.")
    most = 0 if parsed.username is None else 1
    before = url.rpartition("@")[0]
    if url.count("@") > most or "password=" in before.partition("?")[2]:
        raise UrlError(
            "The database URL has an @ that is not escaped: in a user, a password or an option"
            " write %40 for it; likewise %3A for : and %2F for /."
        )


def sqlite_path(url: str) -> Path:
    """Return the file of a URL like sqlite:////var/lib/imgservice/images.db."""
    _, parsed = parse_url(url)
    if parsed.query or parsed.host or not parsed.database or parsed.database == ":memory:":
        raise UrlError("A SQLite database URL is sqlite:/// and the path of a file, nothing else.")
    return Path(parsed.database)


def sqlite_files(url: str) -> Sequence[Path]:
    """Return all files of a SQLite database that SQLite writes; none for another database."""
    kind, _ = parse_url(url)
    if kind != "sqlite":
        return ()
    path = sqlite_path(url)
    return [path, *(path.with_name(path.name + end) for end in ("-wal", "-shm", "-journal"))]


def libpq_parameters(url: URL) -> Mapping[str, str]:
    """Return libpq's parameters of a PostgreSQL URL."""
    named = {
        "host": url.host,
        "port": str(url.port) if url.port else None,
        "user": url.username,
        "password": url.password,
        "dbname": url.database,
    }
    given = {key: value for key, value in named.items() if value}
    return given | {key: str(url.query[key]) for key in url.query}
