"""The indexes that a command adds: what they change, and that no list changes with them."""

import random
import shutil
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import pytest
from sqlalchemy.dialects import postgresql

from imgservice.db.engine.sqlite import Sqlite, connect
from imgservice.db.engine.statement import Statement
from imgservice.db.repositories.listing.shape import FEW, driven, parameters_of, shape_of
from imgservice.db.repositories.listing.statements import count_statement, page_statement
from imgservice.db.schema.database import SchemaError
from imgservice.db.schema.indexes import EXTRA_INDEXES, add_indexes, drop_indexes, present_indexes
from imgservice.db.schema.upgrade import check_schema, upgrade
from imgservice.domain.image import Visibility
from imgservice.domain.query import Comparison, ImageQuery
from tests.db.shape import shape
from tests.real.commands import run_command
from tests.real.service import IMGSERVICE

NAMES = [one.name for one in EXTRA_INDEXES]
BEGIN = datetime(2026, 1, 1)
COUNT = 8 * FEW


@attrs.frozen
class Known:
    """An image as the test remembers it."""

    id: str
    name: str | None
    size: int | None
    status: str
    created_at: datetime
    updated_at: datetime | None
    owner: str | None
    visibility: str
    tags: frozenset[str]
    kind: str
    shared_with: Mapping[str, str]


def some_images() -> Iterator[Known]:
    chance = random.Random(7)
    visibilities = ["private"] * 6 + ["shared"] * 6 + ["public", "community"]
    for number in range(COUNT):
        made = BEGIN + timedelta(seconds=number // 3)
        projects = chance.sample(["ours", "theirs", "others"], chance.choice([0, 0, 1, 2]))
        yield Known(
            id=f"{chance.getrandbits(128):032x}",
            name=chance.choice([None, "", f"name {number % 40}"]),
            size=chance.choice([None, 0, chance.randrange(100)]),
            status=chance.choice(["active", "active", "queued"]),
            created_at=made,
            updated_at=chance.choice([None, made + timedelta(seconds=chance.randrange(9999))]),
            owner=chance.choice(["ours", "theirs", "others", "others", "others", None]),
            visibility=chance.choice(visibilities),
            tags=frozenset(["every", *(["rare"] if number % 99 == 0 else [])]),
            kind="unusual" if number % 99 == 1 else "x" * 150 + str(number % 2),
            shared_with={each: chance.choice(["accepted", "pending"]) for each in projects},
        )


def insert(connection: sqlite3.Connection, table: str, row: Mapping[str, object]) -> None:
    values = {"created_at": written(BEGIN), "deleted": 0, **row}
    places = ", ".join("?" * len(values))
    connection.execute(
        f"INSERT INTO {table} ({', '.join(values)}) VALUES ({places})",  # noqa: S608 - our names
        tuple(values.values()),
    )


def written(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat(" ", "microseconds")


def record(connection: sqlite3.Connection, image: Known) -> None:
    row: dict[str, object] = {
        "id": image.id,
        "name": image.name,
        "size": image.size,
        "status": image.status,
        "created_at": written(image.created_at),
        "updated_at": written(image.updated_at),
        "owner": image.owner,
        "visibility": image.visibility,
    }
    insert(connection, "images", {**row, "min_disk": 0, "min_ram": 0})
    of_it = {"image_id": image.id}
    insert(connection, "image_properties", {**of_it, "name": "kind", "value": image.kind})
    for tag in image.tags:
        insert(connection, "image_tags", {**of_it, "value": tag})
    for project, status in image.shared_with.items():
        row = {"member": project, "status": status, "can_share": 0}
        insert(connection, "image_members", {**of_it, **row})


@pytest.fixture(scope="module")
def known() -> Sequence[Known]:
    return list(some_images())


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory, known: Sequence[Known]) -> Path:
    """A database as Glance has it."""
    path = tmp_path_factory.mktemp("plain") / "images.db"
    upgrade(f"sqlite:///{path}")
    connection = connect(path, "rw")
    connection.execute("BEGIN")
    for image in known:
        record(connection, image)
    connection.execute("COMMIT")
    connection.close()
    return path


@pytest.fixture(scope="module")
def indexed(tmp_path_factory: pytest.TempPathFactory, plain: Path) -> Path:
    path = Path(shutil.copy(plain, tmp_path_factory.mktemp("indexed") / "images.db"))
    assert [one.name for one in add_indexes(url_of(path))] == NAMES
    return path


def url_of(path: Path) -> str:
    return f"sqlite:///{path}"


def fetched(connection: sqlite3.Connection, found: Statement, values: Any) -> list[Any]:
    compiled = found.compiled(Sqlite.dialect)
    return connection.execute(compiled.sql, compiled.values(values)).fetchall()


def listed(path: Path, query: ImageQuery) -> list[str]:
    """Return the ids of a list, and see that it is the same whichever filter it begins with."""
    connection = connect(path, "rw", read_only=True)
    asked, values = shape_of(query), parameters_of(query)
    pages = [fetched(connection, page_statement(asked), values)]
    if counting := count_statement(asked):
        ((*counts,),) = fetched(connection, counting, values)
        if 0 in counts:
            assert pages == [[]]
        pages.append(fetched(connection, page_statement(driven(asked, counts)), values))
    connection.close()
    assert all(page == pages[0] for page in pages)
    return [image_id for image_id, *_ in pages[0]]


# -- what a list is, said in Python ---------------------------------------------------------------


def expected(known: Sequence[Known], query: ImageQuery) -> list[str]:
    found = [image for image in known if is_seen(image, query) and is_wanted(image, query)]
    for field, way in reversed(query.sort):
        found.sort(key=partial(key_of, field), reverse=way == "desc")
    return [image.id for image in found[: query.limit]]


def is_seen(image: Known, query: ImageQuery) -> bool:
    is_own = query.project is not None and image.owner == query.project
    if query.visibility is None and image.visibility == "community" and not is_own:
        return False
    if isinstance(query.visibility, Visibility) and image.visibility != query.visibility:
        return False
    if query.is_admin or is_own:
        return True
    if image.visibility in ("public", "community"):
        return True
    status = image.shared_with.get(query.project or "")
    return image.visibility == "shared" and status in (
        ("accepted", "pending") if query.member_status == "all" else (query.member_status,)
    )


def is_wanted(image: Known, query: ImageQuery) -> bool:
    return (
        all(holds(image, each) for each in query.where)
        and all(image.kind == value for _, value in query.properties)
        and image.tags >= set(query.tags)
    )


def holds(image: Known, condition: Comparison) -> bool:
    found: Any = getattr(image, condition.field)
    wanted: Any = condition.value
    if condition.operator == "gte":
        return found is not None and found >= wanted
    return bool(found in wanted if condition.operator == "in" else found == wanted)


def key_of(field: str, image: Known) -> Any:
    value = getattr(image, field)
    if field == "updated_at":
        return value or image.created_at
    return value or (0 if field == "size" else "")


QUERIES: list[dict[str, Any]] = [
    {},
    {"limit": 1000},
    *({"visibility": each} for each in (*Visibility, "all")),
    {"visibility": Visibility.SHARED, "member_status": "all"},
    {"member_status": "pending"},
    {"where": (Comparison("name", "eq", "name 7"),)},
    {"where": (Comparison("name", "eq", ""),)},
    {"where": (Comparison("name", "in", ("name 7", "name 8", "")),)},
    {"where": (Comparison("status", "eq", "queued"),)},
    {"where": (Comparison("status", "in", ("queued", "active")),)},
    {"where": (Comparison("size", "gte", 90),)},
    {"where": (Comparison("owner", "eq", "theirs"),)},
    {"properties": (("kind", "unusual"),)},
    {"properties": (("kind", "x" * 150 + "1"),)},
    {"properties": (("kind", "x" * 150),)},
    {"tags": ("every",)},
    {"tags": ("rare",)},
    {"tags": ("every", "none")},
    {"tags": ("rare",), "properties": (("kind", "x" * 150 + "0"),)},
]
SORTS = [
    (("created_at", "desc"), ("id", "desc")),
    (("created_at", "asc"), ("id", "asc")),
    (("name", "asc"), ("created_at", "asc"), ("id", "asc")),
    (("name", "desc"), ("created_at", "asc"), ("id", "desc")),
    (("size", "desc"), ("created_at", "desc"), ("id", "desc")),
    (("updated_at", "desc"), ("created_at", "desc"), ("id", "desc")),
    (("status", "asc"), ("created_at", "asc"), ("id", "asc")),
]


@pytest.mark.parametrize("sort", SORTS, ids=lambda sort: "-".join(sort[0]))
@pytest.mark.parametrize(("project", "is_admin"), [("ours", True), ("ours", False), (None, False)])
def test_lists_are_the_same_with_and_without(
    known: Sequence[Known], plain: Path, indexed: Path, sort: Any, project: str, is_admin: bool
) -> None:
    for values in QUERIES if sort == SORTS[0] else QUERIES[::3]:
        fields: dict[str, Any] = {"project": project, "is_admin": is_admin, "limit": 25, **values}
        query = ImageQuery(sort=sort, **fields)
        wanted = expected(known, query)
        assert listed(plain, query) == wanted, values
        assert listed(indexed, query) == wanted, values


@pytest.mark.parametrize(
    "values",
    [
        {"where": (Comparison("name", "in", tuple(f"name {n}" for n in range(20, 4200))),)},
        {"tags": ("every",) * 120},
    ],
    ids=lambda values: next(iter(values)),
)
def test_more_values_than_a_statement_could_have_twice(
    known: Sequence[Known], plain: Path, values: Mapping[str, Any]
) -> None:
    query = ImageQuery(project="ours", is_admin=False, limit=25, **values)
    assert listed(plain, query) == expected(known, query)


# -- which index serves what ----------------------------------------------------------------------


def plan(path: Path, **values: Any) -> str:
    fields: dict[str, Any] = {"project": "ours", "is_admin": True, "limit": 25, **values}
    query = ImageQuery(**fields)
    connection = connect(path, "rw", read_only=True)
    statements = [count_statement(shape_of(query)), page_statement(shape_of(query))]
    steps = []
    for statement in filter(None, statements):
        compiled = statement.compiled(Sqlite.dialect)
        parameters = compiled.values(parameters_of(query))
        rows = connection.execute(f"EXPLAIN QUERY PLAN {compiled.sql}", parameters).fetchall()
        steps += [step for *_, step in rows]
    connection.close()
    return "; ".join(steps)


@pytest.mark.parametrize(
    ("step", "values"),
    [
        ("SEARCH images USING INDEX imgsvc_images_owner (owner=?)", {"is_admin": False}),
        ("SEARCH images USING INDEX imgsvc_images_visibility (visibility=?)", {"is_admin": False}),
        (
            "SEARCH image_members USING INDEX imgsvc_image_members_member (member=?)",
            {"is_admin": False},
        ),
        ("SCAN images USING INDEX imgsvc_images_name", {"sort": SORTS[2]}),
        ("SCAN images USING INDEX imgsvc_images_size", {"sort": SORTS[4]}),
        ("SCAN images USING INDEX imgsvc_images_updated_at", {"sort": SORTS[5]}),
        ("SCAN images USING INDEX imgsvc_images_status", {"sort": SORTS[6]}),
        (
            "SEARCH images USING INDEX imgsvc_images_name (<expr>=?)",
            {"where": (Comparison("name", "eq", "x"),)},
        ),
        (
            "SEARCH images USING INDEX imgsvc_images_status (status=?)",
            {"where": (Comparison("status", "eq", "queued"),)},
        ),
        (
            "INDEX imgsvc_image_properties_value (name=? AND <expr>=?)",
            {"properties": (("kind", "unusual"),)},
        ),
        ("INDEX imgsvc_image_tags_value (value=?)", {"tags": ("rare",)}),
    ],
)
def test_every_index_is_used(
    plain: Path, indexed: Path, step: str, values: Mapping[str, Any]
) -> None:
    assert "imgsvc_" not in plan(plain, **values)
    assert step in plan(indexed, **values)


# -- adding and dropping --------------------------------------------------------------------------


def test_glance_finds_nothing_changed_but_the_indexes(plain: Path, indexed: Path) -> None:
    check_schema(url_of(indexed))
    upgrade(url_of(indexed))
    before, after = shape(plain), shape(indexed)
    for table in after.values():
        table["indexes"] = [each for each in table["indexes"] if each[0] not in NAMES]
    assert after == before


def test_adding_and_dropping_twice(plain: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(plain, tmp_path / "images.db"))
    url = url_of(path)
    assert present_indexes(url) == frozenset()
    assert [one.name for one in add_indexes(url)] == NAMES
    assert present_indexes(url) == set(NAMES)
    assert list(add_indexes(url)) == []
    assert [one.name for one in drop_indexes(url)] == NAMES
    assert list(drop_indexes(url)) == []
    assert shape(path) == shape(plain)


def test_databases_that_are_not_there_or_not_ours(tmp_path: Path) -> None:
    with pytest.raises(SchemaError, match="does not exist yet"):
        list(add_indexes(url_of(tmp_path / "none.db")))
    assert list(tmp_path.iterdir()) == []
    bare = tmp_path / "bare.db"
    sqlite3.connect(bare).close()
    with pytest.raises(SchemaError, match="`imgservice db sync` makes them"):
        list(add_indexes(url_of(bare)))
    foreign = tmp_path / "foreign.db"
    connection = sqlite3.connect(foreign)
    connection.execute("CREATE TABLE notes (text)")
    connection.close()
    for work in (add_indexes, drop_indexes):
        with pytest.raises(SchemaError, match="not Glance's"):
            list(work(url_of(foreign)))


def test_a_database_in_which_somebody_else_writes_long(plain: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(plain, tmp_path / "images.db"))
    connection = connect(path, "rw")
    connection.execute("BEGIN IMMEDIATE")
    with pytest.raises(SchemaError, match="database is locked"):
        list(add_indexes(url_of(path), timeout=0.1))
    connection.execute("ROLLBACK")
    connection.close()
    assert present_indexes(url_of(path)) == frozenset()


def test_postgresql_gets_its_own_words() -> None:
    for one in EXTRA_INDEXES:
        text = one.creation(postgresql.dialect())
        assert text.startswith(f"CREATE INDEX CONCURRENTLY {one.name} ON {one.table.name} (")
        assert f"{one.table.name}." not in text


# -- the command ----------------------------------------------------------------------------------


def test_the_command(plain: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(plain, tmp_path / "images.db"))
    config = tmp_path / "config.yaml"
    config.write_text(f"database: {{url: 'sqlite:///{path}'}}\n")

    def run(*arguments: str) -> list[str]:
        done = run_command(IMGSERVICE, "db", "index", *arguments, "--config", config)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    def states() -> set[str]:
        lines = [line.split() for line in run("list")]
        assert [name for _, name, *_ in lines] == NAMES
        return {state for state, *_ in lines}

    changed = [f"{one.name} on {one.table.name}" for one in EXTRA_INDEXES]
    assert states() == {"missing"}
    assert run("add", "--dry-run") == [f"would add {each}" for each in changed]
    assert run("drop") == ["nothing to do"]
    assert run("add") == [f"added {each}" for each in changed]
    assert run("add") == ["nothing to do"]
    assert states() == {"present"}
    assert run("drop", "--dry-run") == [f"would drop {each}" for each in changed]
    assert run("drop") == [f"dropped {each}" for each in changed]


def test_the_command_names_the_option_that_is_wrong(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(f"database: {{url: 'sqlite:///{tmp_path}/none.db'}}\n")
    done = run_command(IMGSERVICE, "db", "index", "add", "--config", config)
    assert done.returncode == 1
    assert "database.url: The database" in done.stderr
    assert "does not exist yet" in done.stderr
