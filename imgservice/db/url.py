"""Where the database is, as the configuration says it."""

from collections.abc import Mapping
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
    """The URL names no database that can be used; the message never holds a password."""


def parse_url(url: str) -> tuple[str, URL]:
    """Return "sqlite", "postgresql" or "mysql", and the parts of the URL."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise UrlError("The database URL cannot be understood.") from None
    kind = _KINDS.get(parsed.drivername.partition("+")[0])
    if kind is None:
        raise UrlError(
            f"The database URL begins with {parsed.drivername}:"
            " sqlite, postgresql and mysql are known."
        )
    if kind != "sqlite" and not parsed.database:
        raise UrlError("The database URL does not name a database, as in …://host/name.")
    return kind, parsed


def place(url: str) -> str:
    """Say, for people, where the database is; there is no user and no password in it."""
    kind, parsed = parse_url(url)
    if kind == "sqlite":
        return str(parsed.database)
    asked = parsed.query
    host = parsed.host or asked.get("host") or asked.get("unix_socket") or "a local socket"
    hosts = host if isinstance(host, str) else ", ".join(host)
    port = f":{parsed.port}" if parsed.port else ""
    return f"{hosts}{port}/{parsed.database}"


def sqlite_path(url: str) -> Path:
    """Return the file of a URL like sqlite:////var/lib/imgservice/images.db."""
    _, parsed = parse_url(url)
    if parsed.query or parsed.host or not parsed.database or parsed.database == ":memory:":
        raise UrlError("A SQLite database URL is sqlite:/// and the path of a file, nothing else.")
    path = Path(parsed.database)
    if not path.parent.is_dir():
        raise UrlError(f"The directory {path.parent} of the database does not exist.")
    return path


def libpq_parameters(url: URL) -> Mapping[str, str]:
    """Return what libpq wants to know of a PostgreSQL URL."""
    named = {
        "host": url.host,
        "port": str(url.port) if url.port else None,
        "user": url.username,
        "password": url.password,
        "dbname": url.database,
    }
    given = {key: value for key, value in named.items() if value}
    return given | {key: str(url.query[key]) for key in url.query}
