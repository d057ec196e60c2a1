"""New databases, Glance's databases, and those that are refused."""

import json
import resource
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from imgservice.db.engine.url import UrlError
from imgservice.db.schema import upgrade as upgrade_module
from imgservice.db.schema.database import SchemaError
from imgservice.db.schema.tables import GLANCE_REVISION, OWN_REVISION, glance_metadata, own_metadata
from imgservice.db.schema.upgrade import check_schema, upgrade
from tests.db.shape import TABLES_SINCE_JOBS, shape

GLANCE = Path(__file__).with_name("glance_2024_1_contract01.json")
"""The shape of the tables that `glance-manage db sync` of Glance 33 makes."""


def url_of(path: Path) -> str:
    return f"sqlite:///{path}"


def execute(path: Path, *statements: str) -> list[tuple[object, ...]]:
    connection = sqlite3.connect(path)
    with connection:
        found = [connection.execute(statement).fetchall() for statement in statements]
    connection.close()
    return found[-1]


def catalogue(path: Path) -> list[tuple[object, ...]]:
    return execute(path, "SELECT name, sql FROM sqlite_master ORDER BY name")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("finished") / "images.db"
    upgrade(url_of(path))
    return path


@pytest.fixture
def present(finished: Path, tmp_path: Path) -> Path:
    """A database that needs nothing."""
    return Path(shutil.copy(finished, tmp_path / "present.db"))


@pytest.fixture
def glance(present: Path) -> Path:
    """A database as Glance itself made it, with an image."""
    execute(
        present,
        *(f"DROP TABLE {name}" for name in own_metadata.tables),
        "DROP TABLE imgsvc_alembic_version",
        "INSERT INTO images (id, status, created_at, deleted, min_disk, min_ram)"
        " VALUES ('x', 'active', '2026-01-01 00:00:00.000000', 0, 0, 0)",
    )
    return present


def test_a_new_database_is_the_one_that_glance_makes(finished: Path) -> None:
    assert shape(finished) == json.loads(GLANCE.read_text())
    assert execute(finished, "SELECT * FROM alembic_version") == [(GLANCE_REVISION,)]


def test_the_tables_in_code_are_the_tables_made(finished: Path) -> None:
    engine = sa.create_engine(url_of(finished), poolclass=sa.NullPool)
    for metadata in (own_metadata, glance_metadata):
        with engine.connect() as connection:
            context = MigrationContext.configure(
                connection,
                opts={
                    "include_name": lambda name, kind, _, known=metadata: (
                        kind != "table" or name in known.tables
                    )
                },
            )
            assert compare_metadata(context, metadata) == []


def test_the_revisions_in_code_are_the_heads_of_the_trees() -> None:
    migrations = Path(upgrade_module.__file__).parents[1] / "migrations"
    heads = [
        ScriptDirectory(str(migrations / tree)).get_current_head() for tree in ("glance", "own")
    ]
    assert heads == [GLANCE_REVISION, OWN_REVISION]


def test_a_second_upgrade_changes_nothing(present: Path) -> None:
    before = catalogue(present)
    upgrade(url_of(present))
    check_schema(url_of(present))
    assert catalogue(present) == before


def test_a_start_on_a_present_database_imports_no_alembic(present: Path) -> None:
    code = (
        "import sys; from imgservice.db.schema.upgrade import upgrade; upgrade(sys.argv[1]);"
        "print('alembic' in sys.modules, 'sqlalchemy.orm' in sys.modules)"
    )
    command = [sys.executable, "-c", code, url_of(present)]
    assert subprocess.check_output(command, text=True).split() == ["False", "False"]


def test_the_database_of_a_glance_gets_our_tables_only(glance: Path) -> None:
    execute(glance, "PRAGMA journal_mode = DELETE")  # as Glance makes its files
    before, content = catalogue(glance), glance.read_bytes()
    check_schema(url_of(glance))
    assert glance.read_bytes() == content

    upgrade(url_of(glance))

    after = catalogue(glance)
    assert [row for row in after if "imgsvc" not in str(row)] == before
    assert {"imgsvc_leases", "imgsvc_alembic_version"} < {str(name) for name, _ in after}
    assert execute(glance, "SELECT id FROM images") == [("x",)]


LEASE = (
    "INSERT INTO imgsvc_leases"
    " VALUES ('l', 'upload', 'x', 'node', 'local', '2026-01-01', '2026-01-02'{})"
)
JOB = (None, 0, None, None, 0)
"""What a lease of an earlier revision gets: no payload, no attempts, no time, no error, not
cancelled."""
BEFORE_JOBS = [
    *(f"DROP TABLE {name}" for name in TABLES_SINCE_JOBS),
    *(
        f"ALTER TABLE imgsvc_leases DROP COLUMN {name}"
        for name in ("payload", "attempts", "not_before", "error", "cancelled")
    ),
]


def test_leases_of_the_first_revision_stay(present: Path) -> None:
    execute(
        present,
        *BEFORE_JOBS,
        "DROP TABLE imgsvc_projects",
        "DROP INDEX ix_imgsvc_leases_project",
        "ALTER TABLE imgsvc_leases DROP COLUMN project",
        "ALTER TABLE imgsvc_leases DROP COLUMN reserved",
        "UPDATE imgsvc_alembic_version SET version_num = '0001_leases'",
        LEASE.format(""),
    )
    upgrade(url_of(present))
    [row] = execute(present, "SELECT * FROM imgsvc_leases")
    old = ("l", "upload", "x", "node", "local", "2026-01-01", "2026-01-02", None, None)
    assert row == (*old, *JOB)
    assert execute(present, "SELECT * FROM imgsvc_projects") == []


def test_leases_of_the_second_revision_become_jobs(present: Path) -> None:
    execute(
        present,
        *BEFORE_JOBS,
        "UPDATE imgsvc_alembic_version SET version_num = '0002_quotas'",
        LEASE.format(", 'p', 5"),
    )
    upgrade(url_of(present))
    [row] = execute(present, "SELECT * FROM imgsvc_leases")
    old = ("l", "upload", "x", "node", "local", "2026-01-01", "2026-01-02", "p", 5)
    assert row == (*old, *JOB)


def test_a_glance_in_the_middle_of_its_upgrade(glance: Path) -> None:
    execute(
        glance,
        "UPDATE alembic_version SET version_num = '2023_1_contract01'",
        "INSERT INTO alembic_version VALUES ('2024_1_expand01')",
    )
    upgrade(url_of(glance))
    assert len(execute(glance, "SELECT * FROM alembic_version")) == 2


@pytest.mark.parametrize(
    ("statements", "message"),
    [
        (["UPDATE alembic_version SET version_num = '2023_1_contract01'"], "2023_1_contract01"),
        (["UPDATE alembic_version SET version_num = '2024_1_expand01'"], "2024_1_expand01"),
        (["UPDATE alembic_version SET version_num = '2030_1_contract01'"], "2030_1_contract01"),
        (["INSERT INTO alembic_version VALUES ('rocky')"], "and rocky"),
        (["DELETE FROM alembic_version"], "no Glance revision"),
        (["DROP TABLE alembic_version"], "no Glance revision"),
        (["CREATE TABLE imgsvc_leases (id INT)"], "imgsvc_.* does not know: none"),
        (
            [
                "CREATE TABLE imgsvc_alembic_version (version_num VARCHAR(32))",
                "INSERT INTO imgsvc_alembic_version VALUES ('9999_future')",
            ],
            "does not know: 9999_future",
        ),
    ],
)
def test_refused_databases_stay_as_they_are(
    glance: Path, statements: list[str], message: str
) -> None:
    execute(glance, *statements, "SELECT 1")
    before = catalogue(glance)
    for check in (check_schema, upgrade):
        with pytest.raises(SchemaError, match=message):
            check(url_of(glance))
    assert catalogue(glance) == before


def test_checking_creates_nothing(tmp_path: Path) -> None:
    check_schema(url_of(tmp_path / "new.db"))
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_database(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("Not a database, but text.\n" * 100)
    for check in (check_schema, upgrade):
        with pytest.raises(SchemaError, match=r"notes\.txt cannot be used: file is not a database"):
            check(url_of(path))
    with pytest.raises(SchemaError, match="unable to open database file"):
        upgrade(url_of(tmp_path))


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("oracle://user:SECRET@host/db", "begins with oracle: sqlite, postgresql and mysql are"),
        ("postgresql://user:SECRET@host", "does not name a database"),
        ("SECRET", "cannot be understood"),
        ("sqlite://", "the path of a file"),
        ("sqlite:///:memory:", "the path of a file"),
        ("sqlite://user:SECRET@host/x.db", "the path of a file"),
        ("sqlite:////tmp/x.db?mode=SECRET", "the path of a file"),
    ],
)
def test_urls_that_name_nothing_usable(url: str, message: str) -> None:
    with pytest.raises(UrlError, match=message) as raised:
        upgrade(url)
    assert "SECRET" not in str(raised.value)


def test_a_missing_directory_is_made(tmp_path: Path) -> None:
    upgrade(url_of(tmp_path / "some" / "folder" / "x.db"))
    with pytest.raises(SchemaError, match=r"/proc/no/x\.db cannot be used: /proc/no:"):
        upgrade("sqlite:////proc/no/x.db")


def test_processes_that_start_at_once(tmp_path: Path) -> None:
    path = tmp_path / "new.db"
    code = (
        "import sys; from imgservice.db.schema.upgrade import upgrade;"
        "import alembic.command; print('ready', flush=True); sys.stdin.readline();"
        "upgrade(sys.argv[1])"
    )
    command = [sys.executable, "-c", code, url_of(path)]
    starting = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(4)
    ]
    for process in starting:
        assert process.stdout is not None
        process.stdout.readline()
    for process in starting:
        process.communicate(b"go\n", timeout=120)
    assert [process.returncode for process in starting] == [0] * 4
    assert shape(path) == json.loads(GLANCE.read_text())
    assert execute(path, "SELECT * FROM alembic_version") == [(GLANCE_REVISION,)]


def test_an_upgrade_that_fails_leaves_nothing_half_done(tmp_path: Path) -> None:
    path = tmp_path / "new.db"
    code = "import sys; from imgservice.db.schema.upgrade import upgrade; upgrade(sys.argv[1])"
    limit = 100_000  # bytes that a file may have: fewer than all the tables need
    process = subprocess.run(
        [sys.executable, "-c", code, url_of(path)],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert "SchemaError" in process.stderr.splitlines()[-1]
    assert catalogue(path) == []
    upgrade(url_of(path))
    assert shape(path) == json.loads(GLANCE.read_text())
