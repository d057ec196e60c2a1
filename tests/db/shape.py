"""What the catalogue of a SQLite database says of its tables, in a form that can be compared."""

import sqlite3
from pathlib import Path
from typing import Any

from imgservice.db.schema.tables import own_metadata

TABLES_SINCE_JOBS = own_metadata.tables.keys() - {"imgsvc_leases", "imgsvc_projects"}
"""Our tables of revisions after `0003_jobs`, which a database of that revision does not have."""


def shape(path: Path) -> dict[str, Any]:
    """Describe every table but ours: columns, indexes, foreign keys, checks."""
    with sqlite3.connect(path) as connection:
        found = connection.execute(
            "SELECT name, sql FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'imgsvc%'"
        ).fetchall()
        described = {name: _table(connection, name, sql) for name, sql in found}
    connection.close()
    return described


def _table(connection: sqlite3.Connection, name: str, sql: str) -> dict[str, Any]:
    def pragma(what: str, of: str) -> list[list[Any]]:
        return [list(row) for row in connection.execute(f"PRAGMA {what}('{of}')")]

    return {
        "columns": [row[1:] for row in pragma("table_info", name)],
        "indexes": sorted(
            [row[1], row[2], row[3], [column[2] for column in pragma("index_info", row[1])]]
            for row in pragma("index_list", name)
        ),
        "foreign_keys": sorted(row[2:] for row in pragma("foreign_key_list", name)),
        "constraints": sorted(
            part.strip(", ") for part in sql.splitlines() if "CHECK" in part or "CONSTRAINT" in part
        ),
    }
