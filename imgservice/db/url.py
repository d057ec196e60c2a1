"""Where the database is, as the configuration says it."""

from pathlib import Path

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError


class UrlError(ValueError):
    """The URL names no database that can be used; the message never holds a password."""


def sqlite_path(url: str) -> Path:
    """Return the file of a URL like sqlite:////var/lib/imgservice/images.db."""
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise UrlError("The database URL cannot be understood.") from None
    if parsed.drivername not in ("sqlite", "sqlite+pysqlite"):
        raise UrlError(f"The database URL begins with {parsed.drivername}: only sqlite is known.")
    if parsed.query or parsed.host or not parsed.database or parsed.database == ":memory:":
        raise UrlError("A SQLite database URL is sqlite:/// and the path of a file, nothing else.")
    path = Path(parsed.database)
    if not path.parent.is_dir():
        raise UrlError(f"The directory {path.parent} of the database does not exist.")
    return path
