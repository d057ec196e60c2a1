"""`imgservice db` on every database: what it says, what it removes, and what it leaves alone."""

import json
import os
import pty
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

import attrs
import pytest
import pytest_twisted
import sqlalchemy as sa
from click.testing import CliRunner
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from imgservice.cli import main
from imgservice.db.admin.purge import BATCH, PARTS, Purge
from imgservice.db.engine.database import Database
from imgservice.db.repositories.members import Members
from imgservice.db.repositories.rows import utc_now
from imgservice.db.schema.indexes import (
    EXTRA_INDEXES,
    add_indexes,
    possible_indexes,
    present_indexes,
)
from imgservice.db.schema.tables import (
    GLANCE_REVISION,
    OWN_REVISION,
    glance_metadata,
    image_locations,
    image_members,
    image_properties,
    image_tags,
    images,
    leases,
    own_metadata,
    task_info,
    tasks,
)
from tests.contract.databases import database, database_url, sqlite_url
from tests.real.commands import Command, run_command
from tests.real.service import IMGSERVICE, free_port
from tests.servers import Server

__all__ = ["database", "database_url", "sqlite_url"]  # fixtures

NOW = utc_now().replace(microsecond=0)
CHILDREN = (image_members, image_properties, image_tags, image_locations)
DRIVERS = {
    "sqlite": "sqlite",
    "postgresql": "postgresql+psycopg",
    "mysql": "mysql+pymysql",
}


@attrs.frozen
class Place:
    """A database, the command on it, and a way to look into it that is not ours."""

    url: str
    config: Path
    engine: sa.Engine

    def command(self, *arguments: str) -> list[str]:
        return [str(IMGSERVICE), "db", *arguments, "--config", str(self.config)]

    def run(self, *arguments: str, code: int = 0) -> list[str]:
        """Run the command in this process, which saves the time that an interpreter needs."""
        done = CliRunner().invoke(main, self.command(*arguments)[1:])
        assert done.exit_code == code, done.output
        return done.stdout.splitlines()

    def start(self, *arguments: str) -> Command:
        return Command(*self.command(*arguments))

    def execute(self, statement: sa.Executable, rows: Sequence[Mapping[str, Any]] = ()) -> None:
        with self.engine.begin() as connection:
            if rows:
                connection.execute(statement, list(rows))
            else:
                connection.execute(statement)

    def scalars(self, statement: "sa.Select[Any]") -> list[Any]:
        with self.engine.connect() as connection:
            return list(connection.scalars(statement))

    def count(self, table: sa.Table) -> int:
        return int(self.scalars(sa.select(sa.func.count()).select_from(table))[0])

    def everything(self) -> dict[str, list[Any]]:
        tables = (*glance_metadata.sorted_tables, *own_metadata.sorted_tables)
        with self.engine.connect() as connection:
            return {
                table.name: sorted(map(repr, connection.execute(sa.select(table))))
                for table in tables
            }


@pytest.fixture
def place(database_url: str, tmp_path: Path) -> Iterator[Place]:
    with placed(database_url, tmp_path) as found:
        yield found
        for table in (task_info, tasks):  # which other tests have nothing to do with
            found.execute(sa.delete(table))


@contextmanager
def placed(url: str, folder: Path) -> Iterator[Place]:
    config = folder / "imgservice.yaml"
    config.write_text(f"# operators' own words\ndatabase:\n  url: {url}\n")
    parsed = sa.make_url(url)
    engine = sa.create_engine(
        parsed.set(drivername=DRIVERS[parsed.drivername]), poolclass=sa.NullPool
    )
    yield Place(url, config, engine)
    engine.dispose()


# -- rows that go, and rows that stay -------------------------------------------------------------

NUMBERS = count(1)


def marks(days: float | None, deleted: bool = True) -> dict[str, Any]:
    at = None if days is None else NOW - timedelta(days=days)
    return {"created_at": NOW - timedelta(days=999), "deleted": deleted, "deleted_at": at}


LIVE = marks(None, deleted=False)
NEW, OLD, OLDEST = marks(10), marks(40), marks(400)
RESTORED = marks(400, deleted=False)
"""As Glance's restoring of an image leaves it: it lives, and keeps the time of its deletion."""


def image(place: Place, **values: Any) -> str:
    image_id = f"image-{next(NUMBERS)}"
    row = {"status": "active", "min_disk": 0, "min_ram": 0, "size": 7, **values}
    place.execute(sa.insert(images), [{"id": image_id, **row}])
    return image_id


def child(table: sa.Table, image_id: str, text: str, **values: Any) -> dict[str, Any]:
    text = f"{text}-{next(NUMBERS)}"
    columns: dict[str, dict[str, Any]] = {
        "image_members": {"member": text, "can_share": False, "status": "accepted"},
        "image_properties": {"name": text, "value": "x"},
        "image_tags": {"value": text},
        "image_locations": {"value": text, "status": "deleted", "meta_data": "{}"},
    }
    return {"image_id": image_id, **columns[table.name], **values}


def children(place: Place, image_id: str, text: str, **values: Any) -> None:
    """Add a row to each table of what belongs to images."""
    for table in CHILDREN:
        place.execute(sa.insert(table), [child(table, image_id, text, **values)])


def texts(place: Place) -> dict[str, list[str]]:
    """Return what is left, by the words that `child` was given."""
    columns = {
        "image_members": image_members.c.member,
        "image_properties": image_properties.c.name,
        "image_tags": image_tags.c.value,
        "image_locations": image_locations.c.value,
        "tasks": tasks.c.type,
    }
    return {
        table: sorted(text.partition("-")[0] for text in place.scalars(sa.select(column)))
        for table, column in columns.items()
    }


def task(place: Place, text: str, **values: Any) -> str:
    task_id = f"task-{next(NUMBERS)}"
    row = {"id": task_id, "type": text, "status": "success", "owner": "o", **values}
    place.execute(sa.insert(tasks), [row])
    place.execute(sa.insert(task_info), [{"task_id": task_id, "message": text}])
    return task_id


def lease(place: Place, image_id: str, minutes: float = 99, holder: str = "h") -> None:
    row = {"id": f"lease-{next(NUMBERS)}", "kind": "delete", "image_id": image_id, "holder": holder}
    times = {"created_at": NOW, "expires_at": NOW + timedelta(minutes=minutes)}
    place.execute(sa.insert(leases), [{**row, **times}])


@attrs.frozen
class Planted:
    """Images by what has become of them."""

    live: str
    restored: str
    new: str
    old: str
    leased: str
    pending: str


def plant(place: Place) -> Planted:
    gone = {"status": "deleted"}
    found = Planted(
        live=image(place, **LIVE),
        restored=image(place, **RESTORED),
        new=image(place, **gone, **NEW),
        old=image(place, **gone, **OLDEST),
        leased=image(place, **gone, **OLDEST),
        pending=image(place, status="pending_delete", **OLDEST),
    )
    lease(place, found.leased)
    for kept, values in (
        (found.live, LIVE),
        (found.live, NEW),
        (found.restored, RESTORED),
        (found.new, NEW),
        (found.leased, OLDEST),
        (found.pending, OLDEST),
    ):
        children(place, kept, "keep", **values)
    children(place, found.live, "go", **OLD)
    children(place, found.old, "go", **OLDEST)
    lost = child(image_locations, found.live, "keep", **OLDEST)
    place.execute(sa.insert(image_locations), [{**lost, "status": "pending_delete"}])
    task(place, "keep", **LIVE)
    task(place, "keep", **NEW)
    task(place, "go", **OLD)
    return found


KEPT = {
    "image_members": ["keep"] * 6,
    "image_properties": ["keep"] * 6,
    "image_tags": ["keep"] * 6,
    "image_locations": ["keep"] * 7,
    "tasks": ["keep"] * 2,
}
STAYING = {"image_members": 2, "image_properties": 2, "image_tags": 2, "image_locations": 3}
DATA = "the data of the image is still to be removed"


def test_a_purge_removes_what_is_old_and_nothing_else(place: Place) -> None:
    planted = plant(place)
    before = place.everything()
    staying = [f"{table}: {number} kept: {DATA}" for table, number in STAYING.items()]
    gone = {table.name: 2 for table in CHILDREN} | {"tasks": 1, "task_info": 1}

    said = place.run("purge", "--dry-run")
    assert sorted(said) == sorted(
        [f"{table}: {number} would be removed" for table, number in gone.items()] + staying
    )
    assert place.everything() == before

    said = place.run("purge", "--max-rows", "-1")
    assert sorted(said) == sorted(
        [f"{table}: {number} removed" for table, number in gone.items()] + staying
    )
    assert texts(place) == KEPT
    assert place.scalars(sa.select(task_info.c.message)) == ["keep", "keep"]
    after = place.everything()
    assert after["images"] == before["images"]
    assert after["imgsvc_leases"] == before["imgsvc_leases"]
    for table in KEPT:  # what is left is unchanged
        assert set(after[table]) < set(before[table])

    assert place.run("purge-images", "--dry-run")[0] == "images: 1 would be removed"
    assert place.run("purge-images") == ["images: 1 removed", f"images: 2 kept: {DATA}"]
    left = set(place.scalars(sa.select(images.c.id)))
    assert left == {*attrs.astuple(planted)} - {planted.old}
    assert texts(place) == KEPT


def test_images_stay_while_something_belongs_to_them(place: Place) -> None:
    planted = plant(place)
    said = place.run("purge-images", "--age_in_days", "1", "--max_rows", "-1")
    assert said == [
        "images: 0 removed",
        "images: 2 kept: run `imgservice db purge` first, which removes what belongs to them",
        f"images: 2 kept: {DATA}",
    ]
    assert set(place.scalars(sa.select(images.c.id))) == {*attrs.astuple(planted)}


def tags(place: Place, number: int, **values: Any) -> None:
    """Tag a live image often; the tags were removed one after the other."""
    tagged = image(place, **LIVE)
    at = NOW - timedelta(days=50)
    rows = [
        {
            **child(image_tags, tagged, "go"),
            **{**OLD, "deleted_at": at + timedelta(minutes=each), **values},
        }
        for each in range(number)
    ]
    place.execute(sa.insert(image_tags), rows)


def test_the_oldest_go_first(place: Place) -> None:
    tags(place, 30)
    in_order = place.scalars(sa.select(image_tags.c.id).order_by(image_tags.c.deleted_at))
    assert "image_tags: 0 removed" in place.run("purge", "--max-rows", "0")
    assert "image_tags: 7 would be removed" in place.run("purge", "--max-rows", "7", "--dry-run")
    assert "image_tags: 7 removed" in place.run("purge", "--max-rows", "7")
    left = place.scalars(sa.select(image_tags.c.id).order_by(image_tags.c.deleted_at))
    assert left == in_order[7:]
    assert "image_tags: 0 removed" in place.run("purge", "--age-in-days", "60")
    assert "image_tags: 23 removed" in place.run("purge", "--age-in-days", "0")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_purge_goes_on_with_the_next(place: Place, number: signal.Signals) -> None:
    total = 2 * BATCH + 500
    tags(place, total)
    tags(place, 3, **LIVE)
    running = place.start("purge", "--max-rows", "-1", "--pause", "60")
    try:
        deadline = time.monotonic() + 60
        while place.count(image_tags) == total + 3:
            assert running.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        running.send_signal(number)
        said, complaint = running.communicate(timeout=120)
    finally:
        running.kill()
    assert place.count(image_tags) == total + 3 - BATCH
    if number is not signal.SIGKILL:
        assert running.returncode == 128 + number
        assert f"image_tags: {BATCH} removed" in said.splitlines()
        assert complaint == "imgservice: interrupted; the next run continues\n"
    said_next = place.run("purge", "--max-rows", "-1", "--pause", "0")
    assert f"image_tags: {total - BATCH} removed" in said_next
    assert place.count(image_tags) == 3


def test_two_purges_at_once_share_the_work(place: Place) -> None:
    total = 6 * BATCH
    tags(place, total)
    tags(place, 5, **LIVE)
    command = ("purge", "--max-rows", "-1", "--pause", "0.01")
    running = [place.start(*command), place.start(*command)]
    outputs = [each.communicate(timeout=120) for each in running]
    assert [each.returncode for each in running] == [0, 0], outputs
    assert removed(outputs[0][0], "image_tags") + removed(outputs[1][0], "image_tags") == total
    assert place.count(image_tags) == 5


def removed(output: str, table: str) -> int:
    [line] = [line for line in output.splitlines() if line.startswith(f"{table}: ")]
    return int(line.split()[1])


def test_what_comes_back_to_life_meanwhile_stays(place: Place) -> None:
    tags(place, BATCH + 10)
    revived = place.scalars(sa.select(image_tags.c.id).order_by(image_tags.c.deleted_at))[-4:]

    def revive(pause: float) -> None:
        these = image_tags.c.id.in_(revived)
        place.execute(sa.update(image_tags).where(these).values(deleted=False, deleted_at=None))

    list(Purge(place.url, PARTS, NOW - timedelta(days=30)).run(0.0, wait=revive))
    assert sorted(place.scalars(sa.select(image_tags.c.id))) == sorted(revived)


@pytest_twisted.ensureDeferred
async def test_a_member_comes_back_while_its_row_is_purged(
    place: Place, database: Database
) -> None:
    shared = image(place, **LIVE)
    row = {**child(image_members, shared, "x"), "member": "project", **OLD}
    place.execute(sa.insert(image_members), [row])
    with place.engine.connect() as connection:
        if place.engine.name == "sqlite":
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        connection.execute(sa.delete(image_members))
        adding = Deferred.fromCoroutine(Members(database).add(shared, "project", 9))
        await deferToThread(time.sleep, 0.5)  # it has read the row by now, and waits for it
        assert not adding.called
        connection.commit()
    assert (await adding).project == "project"
    assert place.scalars(sa.select(image_members.c.deleted)) == [False]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("purge", "--age-in-days", "-1"), "--age-in-days"),
        (("purge", "--age-in-days", "x"), "--age-in-days"),
        (("purge", "--age-in-days", "99999"), "is before 1970"),
        (("purge-images", "--max-rows", "-2"), "--max-rows"),
        (("purge", "--pause", "-1"), "--pause"),
    ],
)
def test_impossible_options(
    sqlite_url: str, tmp_path: Path, arguments: Sequence[str], complaint: str
) -> None:
    with placed(sqlite_url, tmp_path) as place:
        done = run_command(*place.command(*arguments))
    assert done.returncode == 2
    assert complaint in done.stderr


def test_a_bar_is_drawn_on_a_terminal(sqlite_url: str, tmp_path: Path) -> None:
    with placed(sqlite_url, tmp_path) as place:
        tags(place, BATCH + 1)
        terminal, end = pty.openpty()
        command = place.command("purge", "--max-rows", "-1")
        done = run_command(*command, stderr=end)
        os.close(end)
        drawn = os.read(terminal, 100_000).decode()
        assert done.returncode == 0, drawn
        os.close(terminal)
    assert "Removing" in drawn
    assert "100%" in drawn
    assert f"image_tags: {BATCH + 1} removed" in done.stdout


# -- the tables -----------------------------------------------------------------------------------


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path}/new.db"
    else:
        server: Server = request.getfixturevalue(request.param)
        url = server.create(f"empty{next(NUMBERS)}")
    with placed(url, tmp_path) as found:
        yield found


def test_an_empty_database(empty: Place) -> None:
    none = ["glance      none", "imgservice  none"]
    now = [f"glance      {GLANCE_REVISION}", f"imgservice  {OWN_REVISION}"]
    assert "no tables yet" in empty.run("check", code=3)[0]
    assert empty.run("version") == none
    for command in ("purge", "purge-images", "stats"):
        empty.run(command, code=1)
    assert empty.run("version") == none
    assert empty.run("sync") == ["The database is up to date now.", *now]
    assert empty.run("upgrade") == ["The database was up to date.", *now]
    assert empty.run("check") == ["The database is up to date."]
    assert empty.run("version") == now


def test_what_check_can_find(sqlite_url: str, tmp_path: Path) -> None:
    with placed(sqlite_url, tmp_path) as place:
        states(place)


def states(place: Place) -> None:
    """Go through them; the exit codes are those of `glance-manage db check`."""
    version = sa.table("alembic_version", sa.column("version_num"))
    own = sa.table("imgsvc_alembic_version", sa.column("version_num"))
    old, expanded = "2023_1_contract01", "2024_1_expand01"

    def at(*revisions: str) -> None:
        place.execute(sa.delete(version))
        place.execute(sa.insert(version), [{"version_num": each} for each in revisions])

    for revisions, code, words in (
        ((old, "2023_1_expand01"), 3, "db expand"),
        (("rocky_contract02",), 3, "db expand"),
        ((old, expanded), 5, "db contract"),
        ((expanded,), 5, "db contract"),
    ):
        at(*revisions)
        assert words in place.run("check", code=code)[0]
    assert place.run("version")[0] == f"glance      {expanded}"
    at("2030_1_contract01")
    place.run("check", code=1)
    place.run("sync", code=1)
    at(GLANCE_REVISION)
    place.execute(sa.update(own).values(version_num="0001_leases"))
    assert "imgsvc_*" in place.run("check", code=6)[0]
    place.execute(sa.update(own).values(version_num="9999_later"))
    place.run("check", code=1)
    place.execute(sa.update(own).values(version_num=OWN_REVISION))
    assert place.run("check") == ["The database is up to date."]


# -- what there is --------------------------------------------------------------------------------


def test_stats(place: Place) -> None:
    live = [image(place, **LIVE) for _ in range(3)]
    gone = image(place, status="deleted", **OLD)
    image(place, status="deleted", **NEW)
    places = [
        (live[0], "active", '{"store": "local"}', LIVE),
        (live[1], "active", '{"store": "local", "a": 1}', LIVE),
        (live[1], "active", '{"backend": "far"}', LIVE),
        (live[2], "active", "{}", LIVE),
        (live[2], "active", None, LIVE),
        (live[2], "deleted", '{"store": "local"}', OLD),
        (gone, "deleted", '{"store": "local"}', OLD),
    ]
    for image_id, status, metadata, values in places:
        row = {**child(image_locations, image_id, "x", **values), "status": status}
        place.execute(sa.insert(image_locations), [{**row, "meta_data": metadata}])
    lease(place, gone)
    lease(place, gone, minutes=-9)
    lease(place, gone, minutes=-9, holder="")

    found = json.loads("\n".join(place.run("stats", "--json")))
    counted = {(one["table"], one["status"]): one for one in found["tables"]}
    oldest = (NOW - timedelta(days=40)).isoformat(timespec="seconds") + "Z"
    whole = {"live": 3, "deleted": 2, "oldest_deleted": oldest}
    assert counted["images", None] == {"table": "images", "status": None, **whole}
    assert counted["images", "active"]["live"] == 3
    assert counted["images", "deleted"]["deleted"] == 2
    assert counted["image_locations", "active"]["live"] == 5
    assert counted["imgsvc_leases", None]["live"] == 3
    assert {table for table, _ in counted} == {
        *glance_metadata.tables,
        *own_metadata.tables,
    }
    assert found["stores"] == [
        {"store": "far", "locations": 1, "bytes": 7},
        {"store": "local", "locations": 2, "bytes": 14},
        {"store": None, "locations": 2, "bytes": 14},
    ]
    [of_leases] = found["leases"]
    wanted = {"kind": "delete", "count": 3, "expired": 1, "waiting": 1, "oldest": 0}
    assert {**of_leases, "oldest": 0} == wanted

    words = [line.split() for line in place.run("stats")]
    assert ["images", "3", "2", oldest, "(40", "days)"] in words
    assert ["images", "active", "3", "0"] in words
    assert ["(not", "named)", "2", "14"] in words
    assert any(line[:4] == ["delete", "3", "1", "1"] for line in words)


# -- indexes --------------------------------------------------------------------------------------


def test_indexes(place: Place) -> None:
    possible = possible_indexes(place.url)
    names = {one.name for one in possible}
    left_out = [one for one in EXTRA_INDEXES if one not in possible]
    assert len(left_out) == (4 if place.engine.name == "mysql" else 0)
    more = [
        f"left out {one.name} on {one.table.name}: MariaDB does not support it" for one in left_out
    ]
    changed = [f"{one.name} on {one.table.name}" for one in possible]
    before = shape(place)
    assert place.run("index", "add", "--dry-run") == [f"would add {x}" for x in changed] + more
    assert place.run("index", "add") == [f"added {each}" for each in changed] + more
    assert place.run("index", "add") == ["nothing to do", *more]
    assert present_indexes(place.url) == names
    listed = [line.split("  ")[0] for line in place.run("index", "list")]
    assert listed == ["present" if one in possible else "left out" for one in EXTRA_INDEXES]
    assert shape(place) == before | {(one.table.name, one.name): True for one in possible}
    place.run("check")
    assert place.run("index", "drop") == [f"dropped {each}" for each in changed]
    assert shape(place) == before
    assert place.run("index", "drop", "--dry-run") == ["nothing to do"]


def shape(place: Place) -> dict[tuple[str, str | None], bool]:
    """Return the indexes as SQLAlchemy sees them."""
    inspector = sa.inspect(place.engine)
    with_expressions = place.engine.name == "sqlite"
    if with_expressions:  # of which it sees none there
        found = "SELECT tbl_name, name FROM sqlite_master WHERE type = 'index'"
        with place.engine.connect() as connection:
            return dict.fromkeys(connection.exec_driver_sql(found), True)
    return {
        (table, index["name"]): True
        for table in glance_metadata.tables
        for index in inspector.get_indexes(table)
    }


def test_two_processes_make_indexes_at_once(place: Place) -> None:
    running = [place.start("index", "add"), place.start("index", "add")]
    outputs = [each.communicate(timeout=120) for each in running]
    assert [each.returncode for each in running] == [0, 0], outputs
    lines = "".join(said for said, _ in outputs).splitlines()
    added = sorted(line for line in lines if line.startswith("added"))
    possible = possible_indexes(place.url)
    assert added == sorted(f"added {one.name} on {one.table.name}" for one in possible)
    place.run("index", "drop")


def test_an_index_whose_making_was_interrupted(postgresql_url: str, tmp_path: Path) -> None:
    name = "imgsvc_images_owner"
    with placed(postgresql_url, tmp_path) as place:
        image(place, **LIVE, owner="o")
        image(place, **LIVE, owner="o")
        with place.engine.connect() as connection:
            own = connection.execution_options(isolation_level="AUTOCOMMIT")
            with pytest.raises(sa.exc.IntegrityError):
                own.exec_driver_sql(f"CREATE UNIQUE INDEX CONCURRENTLY {name} ON images (owner)")
        assert name not in present_indexes(postgresql_url)
        assert name in [one.name for one in add_indexes(postgresql_url)]
        assert name in present_indexes(postgresql_url)
        image(place, **LIVE, owner="o")  # it is ours, and not that unique one
        place.run("index", "drop")


# -- what cannot be used --------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["postgresql", "mysql"])
def test_a_server_that_does_not_answer(scheme: str, tmp_path: Path) -> None:
    url = f"{scheme}://glance:SECRET@127.0.0.1:{free_port()}/images"
    config = tmp_path / "c.yaml"
    config.write_text(f"database:\n  url: {url}\n")
    for arguments in (["check"], ["version"], ["sync"], ["purge"], ["stats"], ["index", "add"]):
        done = CliRunner().invoke(main, ["db", *arguments, "-c", str(config)])
        assert done.exit_code == 1
        [line] = done.stderr.splitlines()
        assert line.startswith(f"imgservice: {config}:2: database.url: The database 127.0.0.1/")
        assert "SECRET" not in done.stdout + done.stderr
