"""How the databases go about the statements of lists."""

import sqlite3
from pathlib import Path
from typing import Any

import attrs
import pytest
from sqlalchemy.dialects import mysql, postgresql

from imgservice.db.engine.sqlite import Sqlite, connect
from imgservice.db.repositories.listing.shape import (
    FEW,
    Shape,
    driven,
    filters_of,
    parameters_of,
    shape_of,
)
from imgservice.db.repositories.listing.statements import (
    count_statement,
    marker_statement,
    page_statement,
)
from imgservice.db.schema.upgrade import upgrade
from imgservice.domain.image import Visibility
from imgservice.domain.query import Comparison, ImageQuery


@pytest.fixture(scope="module")
def connection(tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = tmp_path_factory.mktemp("plans") / "images.db"
    upgrade(f"sqlite:///{path}")
    connection = connect(Path(path), "rw")
    yield connection
    connection.close()


def plan(connection: sqlite3.Connection, **values: Any) -> str:
    """Return SQLite's plan for finding the ids of a page."""
    return steps_of(connection, shape_of(asked(**values)), **values)


def steps_of(connection: sqlite3.Connection, shape: Shape, **values: Any) -> str:
    """Return the plan of a shape whose values are those of the query."""
    query = asked(**values)
    compiled = page_statement(shape).compiled(Sqlite.dialect)
    parameters = parameters_of(query, marker_keys=[None for _ in query.sort])
    rows = connection.execute(f"EXPLAIN QUERY PLAN {compiled.sql}", compiled.values(parameters))
    steps = [step for *_, step in rows]
    return "; ".join(steps[1 : steps.index("SCAN page")])


def asked(**values: Any) -> ImageQuery:
    fields: dict[str, Any] = {"project": "ours", "is_admin": True, "limit": 25}
    return ImageQuery(**(fields | values))


BY_TIME = "INDEX created_at_image_idx"
SORTS = "; USE TEMP B-TREE FOR ORDER BY"
SORTS_EQUAL_TIMES = "; USE TEMP B-TREE FOR RIGHT PART OF ORDER BY"
OWN = "SEARCH images USING INDEX owner_image_idx (owner=?)"
PUBLIC = "SEARCH images USING INDEX visibility_image_idx (visibility=?)"


def test_an_admin_walks_along_the_times(connection: sqlite3.Connection) -> None:
    assert plan(connection) == f"SCAN images USING {BY_TIME}{SORTS_EQUAL_TIMES}"
    assert plan(connection, marker="x") == (
        f"SEARCH images USING {BY_TIME} (created_at<?){SORTS_EQUAL_TIMES}"
    )
    tagged = plan(connection, tags=("a",))
    assert tagged.startswith(f"SCAN images USING {BY_TIME}")


def test_a_member_visits_only_what_he_may_see(connection: sqlite3.Connection) -> None:
    found = plan(connection, is_admin=False)
    assert found.count(OWN) == 1
    assert PUBLIC in found
    assert "SEARCH images USING INDEX sqlite_autoindex_images_1 (id=?)" in found
    assert "SCAN images" not in found


def test_a_member_who_asks_for_one_visibility(connection: sqlite3.Connection) -> None:
    found = plan(connection, is_admin=False, visibility=Visibility.PUBLIC)
    assert found == f"{PUBLIC}{SORTS}"


def test_rare_filters_are_where_to_begin(connection: sqlite3.Connection) -> None:
    filters: dict[str, Any] = {
        "visibility": Visibility.PUBLIC,
        "properties": (("k", "v"),),
        "tags": ("a",),
    }
    shape = shape_of(ImageQuery(project="ours", is_admin=True, limit=25, **filters))
    assert filters_of(shape) == ("visibility", "property_0", "tag_0")
    assert driven(shape, (FEW + 1, FEW + 1, FEW + 1)) is shape
    for counts, driver in {(9, 5, 7): "property_0", (FEW, 501, 501): "visibility"}.items():
        chosen = driven(shape, counts)
        assert chosen.driver == driver
        by_id = "SEARCH images USING INDEX sqlite_autoindex_images_1 (id=?)"
        assert steps_of(connection, chosen, **filters).startswith(by_id)
    assert filters_of(attrs.evolve(shape, is_admin=False)) == ()


def test_selective_filters_use_their_indexes(connection: sqlite3.Connection) -> None:
    assert plan(connection, where=(Comparison("owner", "eq", "x"),)) == f"{OWN}{SORTS}"
    by_id = plan(connection, where=(Comparison("id", "in", ("a", "b", "c")),))
    assert by_id == f"SEARCH images USING INDEX sqlite_autoindex_images_1 (id=?){SORTS}"
    assert "checksum_image_idx" in plan(connection, where=(Comparison("checksum", "eq", "x"),))
    assert "os_hidden_image_idx" in plan(connection, os_hidden=True)


def test_a_shape_is_compiled_once() -> None:
    def statement(*names: str) -> object:
        where = (Comparison("name", "in", names),)
        query = ImageQuery(project=names[0], is_admin=False, limit=len(names), where=where)
        return page_statement(shape_of(query))

    assert statement("a", "b", "c") is statement("d", "e", "f", "g")
    assert statement("a") is not statement("a", "b")


@pytest.mark.parametrize(
    ("dialect", "functions"),
    [
        (postgresql.dialect(paramstyle="format"), ("json_object_agg", "json_build_array")),
        (mysql.dialect(paramstyle="format"), ("JSON_OBJECTAGG", "JSON_ARRAYAGG")),
    ],
    ids=["postgresql", "mysql"],
)  # fmt: skip
def test_other_databases_get_their_own_words(dialect: Any, functions: tuple[str, ...]) -> None:
    query = ImageQuery(
        project="ours",
        is_admin=False,
        limit=25,
        marker="x",
        visibility=Visibility.SHARED,
        tags=("a",),
        properties=(("k", "v"),),
        where=(Comparison("size", "gte", 1),),
    )
    page = page_statement(shape_of(query)).compiled(dialect)
    marker = marker_statement(query.is_admin, query.project is not None, query.sort).compiled(
        dialect
    )
    assert all(function in page.sql for function in functions)
    every = attrs.evolve(query, is_admin=True)
    count = count_statement(shape_of(every))
    assert count is not None
    rare = page_statement(attrs.evolve(shape_of(every), driver="tag_0")).compiled(dialect)
    for compiled in (page, marker, count.compiled(dialect), rare):
        assert "json_group" not in compiled.sql
        assert "+images" not in compiled.sql
        assert compiled.sql.count("%s") == len(compiled.names)
