"""How SQLite goes about the lists of the benchmark, in its own words."""

import sqlite3
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.fill import fill_sqlite
from bench.options import Options
from bench.population import Population
from bench.queries import Query, queries
from imgservice.api.v2.listing import Paging, image_query, parse_query
from imgservice.db.engine.sqlite import Sqlite, connect
from imgservice.db.engine.statement import Parameters, Row, Statement
from imgservice.db.repositories.listing.shape import driven, parameters_of, shape_of
from imgservice.db.repositories.listing.statements import (
    count_statement,
    marker_statement,
    page_statement,
)
from imgservice.db.schema.indexes import add_indexes
from imgservice.domain.context import Context
from imgservice.domain.query import ImageQuery

MEMBER = "member"


def print_plans(options: Options) -> None:
    """Print the plans without and with our own indexes; they are the same at any size."""
    with tempfile.TemporaryDirectory(prefix="plans-", dir=options.work) as folder:
        file = Path(folder) / "images.db"
        population = Population(options.list_sizes[0], MEMBER)
        fill_sqlite(file, population)
        _print(file, "without indexes of our own", population)
        for _ in add_indexes(f"sqlite:///{file}"):
            pass
        _print(file, "with `imgservice db index add`", population)


def _print(file: Path, title: str, population: Population) -> None:
    connection = connect(file, "rw", read_only=True)
    print(f"\n{title}\n{'=' * len(title)}")
    for query in queries(population):
        for context in (
            Context(project="admin", roles=frozenset({"admin", "reader"}), is_admin=True),
            Context(project=MEMBER, roles=frozenset({"reader"})),
        ):
            print(f"\n{query.name}, {'admin' if context.is_admin else 'member'}: {query.path}")
            for step in _steps(connection, _asked(query, context)):
                print(f"    {step}")
    connection.close()


def _asked(query: Query, context: Context) -> ImageQuery:
    pairs = parse_query(query.path.partition("?")[2].encode())
    return image_query(pairs, context, Paging())


def _steps(connection: sqlite3.Connection, query: ImageQuery) -> Iterator[str]:
    """Yield the steps, without those that collect what belongs to the images of the page."""
    keys: Row = ()
    if query.marker is not None:
        found = marker_statement(query.is_admin, query.project is not None, query.sort)
        (keys,) = _rows(connection, found, parameters_of(query))
    shape, values = shape_of(query), parameters_of(query, keys)
    counting = count_statement(shape)
    if counting is not None:
        (counts,) = _rows(connection, counting, values)
        yield from (f"count: {step}" for step in _explained(connection, counting, values))
        if 0 in counts:
            yield "nothing matches: the list is empty"
            return
        shape = driven(shape, counts)
    steps = list(_explained(connection, page_statement(shape), values))
    yield from steps[1 : steps.index("SCAN page")]


def _rows(
    connection: sqlite3.Connection, statement: Statement, values: Parameters
) -> Sequence[Row]:
    compiled = statement.compiled(Sqlite.dialect)
    return compiled.rows(connection.execute(compiled.sql, compiled.values(values)).fetchall())


def _explained(
    connection: sqlite3.Connection, statement: Statement, values: Parameters
) -> Iterator[str]:
    compiled = statement.compiled(Sqlite.dialect)
    plan = connection.execute(f"EXPLAIN QUERY PLAN {compiled.sql}", compiled.values(values))
    for *_, text in plan.fetchall():
        yield text
