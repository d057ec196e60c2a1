"""Filling databases directly, as fast as they take rows."""

import csv
import io
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

import attrs

from bench.errors import LeftOut, Wrong
from bench.population import CHILDREN, COLUMNS, PLACE, Population, Row
from imgservice.db.schema.upgrade import upgrade


def fill_sqlite(file: Path, population: Population) -> None:
    """Make the database of an imgservice that has never been started, with these images."""
    upgrade(f"sqlite:///{file}")
    connection = sqlite3.connect(file, isolation_level=None)
    try:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("PRAGMA cache_size = -1000000")
        connection.execute("BEGIN")
        _insert(connection, population)
        connection.execute("COMMIT")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    finally:
        connection.close()


def _insert(connection: sqlite3.Connection, population: Population) -> None:
    # An index is made from all rows much faster than it is kept row by row.
    indexes = [
        (name, sql)
        for name, table, sql in connection.execute(
            "SELECT name, tbl_name, sql FROM sqlite_master WHERE type = 'index'"
        )
        if table in COLUMNS and sql is not None
    ]
    for name, _ in indexes:
        connection.execute(f"DROP INDEX {name}")
    for rows in population.batches():
        for table, columns in COLUMNS.items():
            places = ", ".join("?" * len(columns))
            connection.executemany(
                f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({places})",  # noqa: S608
                rows[table],
            )
    for _, sql in indexes:
        connection.execute(sql)


@attrs.frozen
class Postgres:
    """A PostgreSQL database with Glance's tables, filled through the program psql."""

    url: str = attrs.field(repr=False)

    @contextmanager
    def filled(self, population: Population) -> Iterator[None]:
        """Add the images, with statistics as if they had been there long; remove them in the end.

        Rows of an earlier run that was killed are removed first.
        """
        self._run(_REMOVAL)
        try:
            self.fill(population)
            yield
        finally:
            self._run(_REMOVAL)
            self.settle()

    def fill(self, population: Population) -> None:
        """Add the images, for as long as the database is there."""
        for rows in population.batches():
            for table, columns in COLUMNS.items():
                copy = f"COPY {table} ({', '.join(columns)}) FROM STDIN WITH (FORMAT csv)"
                self._run(copy, _csv(rows[table]))
        self.settle()

    def settle(self) -> None:
        """Do now what the server would begin to do some time later, amid a measurement."""
        self._run("VACUUM ANALYZE")

    def _run(self, sql: str, text: str = "") -> None:
        if not shutil.which("psql"):
            raise LeftOut("psql is not installed (Debian's package: postgresql-client)")
        argv = ["psql", "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--command", sql]
        environment = {**os.environ, **_environment(self.url)}
        ended = subprocess.run(
            argv, input=text, capture_output=True, text=True, check=False, env=environment
        )
        if ended.returncode:
            raise Wrong(f"psql: {ended.stderr.strip()}")


_REMOVAL = f"""
CREATE TEMPORARY TABLE gone AS
    SELECT DISTINCT image_id FROM image_locations WHERE value LIKE '{PLACE}%';
{"".join(f"DELETE FROM {table} WHERE image_id IN (TABLE gone);" for table in CHILDREN)}
DELETE FROM images WHERE id IN (TABLE gone);
"""  # noqa: S608 - our own names


def _csv(rows: Sequence[Row]) -> str:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue()


def _environment(url: str) -> dict[str, str]:
    """Return the URL as libpq reads it from its environment: others see a command line."""
    parts = urlsplit(url)
    found = {
        "PGHOST": parts.hostname,
        "PGPORT": parts.port and str(parts.port),
        "PGUSER": parts.username and unquote(parts.username),
        "PGPASSWORD": parts.password and unquote(parts.password),
        "PGDATABASE": parts.path.lstrip("/"),
    }
    return {name: value for name, value in found.items() if value}
