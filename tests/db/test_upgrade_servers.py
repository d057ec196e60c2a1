"""Bringing databases of servers to their present shape, beside a Glance that may be older."""

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from imgservice.db.schema.database import SchemaError
from imgservice.db.schema.tables import (
    GLANCE_EXPANDED,
    GLANCE_REVISION,
    OWN_REVISION,
    glance_metadata,
    own_metadata,
)
from imgservice.db.schema.upgrade import check_schema, upgrade
from tests.db.shape import TABLES_SINCE_JOBS
from tests.real.commands import Command
from tests.real.service import IMGSERVICE
from tests.servers import Server

DRIVERS = {"postgresql": "postgresql+psycopg", "mariadb": "mysql+pymysql"}
OURS = {*own_metadata.tables, "imgsvc_alembic_version"}
THEIRS = {*glance_metadata.tables, "alembic_version"}


class Empty:
    """A database with nothing in it, on one of the servers."""

    def __init__(self, kind: str, server: Server) -> None:
        self.kind = kind
        self.url = server.create(f"upgrade_{uuid.uuid4().hex}")
        self.engine = sa.create_engine(
            sa.make_url(self.url).set(drivername=DRIVERS[kind]), poolclass=sa.NullPool
        )

    def run(self, *statements: str) -> None:
        with self.engine.begin() as connection:
            for statement in statements:
                connection.exec_driver_sql(statement)

    def values(self, query: str) -> list[Any]:
        with self.engine.connect() as connection:
            return [row[0] for row in connection.exec_driver_sql(query)]

    def tables(self) -> set[str]:
        return set(sa.inspect(self.engine).get_table_names())


@pytest.fixture(params=DRIVERS)
def empty(request: pytest.FixtureRequest) -> Iterator[Empty]:
    database = Empty(request.param, request.getfixturevalue(request.param))
    yield database
    database.engine.dispose()


def test_an_empty_database_gets_all_tables(empty: Empty) -> None:
    check_schema(empty.url)
    assert empty.tables() == set()
    upgrade(empty.url)
    assert empty.tables() == OURS | THEIRS
    assert empty.values("SELECT version_num FROM alembic_version") == [GLANCE_REVISION]
    assert empty.values("SELECT version_num FROM imgsvc_alembic_version") == [OWN_REVISION]
    upgrade(empty.url)
    check_schema(empty.url)


def glances(empty: Empty, *revisions: str) -> None:
    """Make the database that of a Glance at these revisions."""
    glance_metadata.create_all(empty.engine)
    rows = [f"INSERT INTO alembic_version VALUES ('{one}')" for one in revisions]  # noqa: S608
    empty.run("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)", *rows)


@pytest.mark.parametrize(
    "revisions", [(GLANCE_REVISION,), ("2023_1_contract01", GLANCE_EXPANDED)], ids=str
)
def test_a_glances_database_gets_ours_beside_it(empty: Empty, revisions: tuple[str, ...]) -> None:
    glances(empty, *revisions)
    upgrade(empty.url)
    assert empty.tables() == OURS | THEIRS
    found = empty.values("SELECT version_num FROM alembic_version")
    assert sorted(found) == sorted(revisions)


@pytest.mark.parametrize("revisions", [("wallaby_contract01",), ("2099_1_contract01",)], ids=str)
def test_another_glance_is_left_alone(empty: Empty, revisions: tuple[str, ...]) -> None:
    glances(empty, *revisions)
    for ask in (upgrade, check_schema):
        with pytest.raises(SchemaError, match=rf"revision {revisions[0]}, but"):
            ask(empty.url)
    assert empty.tables() == THEIRS


def test_what_is_not_glances_is_left_alone(empty: Empty) -> None:
    empty.run("CREATE TABLE images (id INT)")
    with pytest.raises(SchemaError, match="it is not Glance's"):
        upgrade(empty.url)
    assert empty.tables() == {"images"}


def test_processes_that_start_at_once(empty: Empty, tmp_path: Path) -> None:
    config = tmp_path / "imgservice.yaml"
    config.write_text(f"database: {{url: '{empty.url}'}}\n")
    starting = [Command(IMGSERVICE, "db", "sync", "--config", config) for _ in range(3)]
    outputs = [process.communicate() for process in starting]
    assert [process.returncode for process in starting] == [0, 0, 0], outputs
    assert empty.values("SELECT version_num FROM alembic_version") == [GLANCE_REVISION]


def test_a_start_that_was_killed(empty: Empty) -> None:
    """MariaDB cannot take back the creation of a table: the next start goes on from there."""
    if empty.kind == "postgresql":
        pytest.skip("PostgreSQL leaves nothing behind")
    some = [glance_metadata.tables[name] for name in ("images", "image_tags", "tasks")]
    glance_metadata.create_all(empty.engine, tables=some)
    empty.run("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
    upgrade(empty.url)
    assert empty.tables() == OURS | THEIRS


OLD_LEASE = (
    "INSERT INTO imgsvc_leases"
    " (id, kind, image_id, holder, store, created_at, expires_at, project, reserved)"
    " VALUES ('{}', 'upload', 'x', 'node', 'local', '2026-01-01', '2026-01-02', 'p', 5)"
)
"""As the version before jobs writes it."""
JOB_COLUMNS = ("payload", "attempts", "not_before", "error", "cancelled")


@pytest.mark.parametrize("done", [0, 2], ids=["whole", "interrupted"])
def test_leases_become_jobs(empty: Empty, done: int) -> None:
    """Even if MariaDB has kept what a process that was killed has added."""
    upgrade(empty.url)
    empty.run(
        *(f"DROP TABLE {name}" for name in TABLES_SINCE_JOBS),
        *(f"ALTER TABLE imgsvc_leases DROP COLUMN {name}" for name in JOB_COLUMNS[done:]),
        "UPDATE imgsvc_alembic_version SET version_num = '0002_quotas'",
        OLD_LEASE.format("before"),
    )
    upgrade(empty.url)
    empty.run(OLD_LEASE.format("after"))
    names = ", ".join(JOB_COLUMNS)
    with empty.engine.connect() as connection:
        query = f"SELECT id, reserved, {names} FROM imgsvc_leases ORDER BY id"  # noqa: S608
        found = [tuple(row) for row in connection.exec_driver_sql(query)]
    assert found == [(name, 5, None, 0, None, None, False) for name in ("after", "before")]


def test_a_wrong_password_is_told_without_it(empty: Empty) -> None:
    url = sa.make_url(empty.url).set(username="nobody", password="SECRET")
    with pytest.raises(SchemaError, match="cannot be used") as raised:
        upgrade(url.render_as_string(hide_password=False))
    assert "SECRET" not in str(raised.value)
