"""SQL that each database spells its own way: JSON aggregates, and a hint to SQLite's planner."""

from typing import TypeVar

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

T = TypeVar("T")


class json_object(FunctionElement[str]):
    """The text of a JSON object, with one member for each (name, value) of the group.

    A group of no rows gives an empty object or NULL, as the database likes.
    """

    type = sa.Text()
    inherit_cache = True


class json_array(FunctionElement[str]):
    """The text of a JSON array of the group's values, in no order.

    Several arguments give an array of arrays. No rows: an empty array or NULL.
    """

    type = sa.Text()
    inherit_cache = True


class if_short(FunctionElement[str]):
    """An aggregate above, or "+" and a length where the group's texts are longer than `most`.

    Both SQLite and PostgreSQL compute the aggregate once, though it is there several times.
    """

    type = sa.Text()
    inherit_cache = True

    def __init__(
        self,
        found: sa.ColumnElement[str],
        most: sa.ColumnElement[int],
        *texts: sa.ColumnElement[str],
    ) -> None:
        super().__init__(found, most, *texts)


class unindexed(FunctionElement[T]):
    """A column whose indexes SQLite must not use.

    Without statistics SQLite believes that an index on a flag such as `deleted` is as selective
    as any other, and would read half of the table through it. Other databases have statistics.
    """

    inherit_cache = True

    def __init__(self, column: sa.ColumnElement[T]) -> None:
        super().__init__(column)
        self.type = column.type


def _each(element: FunctionElement[T], compiler: SQLCompiler, **options: object) -> list[str]:
    return [compiler.process(clause, **options) for clause in element.clauses]


@compiles(json_object)
def _json_object(element: json_object, compiler: SQLCompiler, **options: object) -> str:
    return f"JSON_OBJECTAGG({', '.join(_each(element, compiler, **options))})"


@compiles(json_object, "sqlite")
def _json_object_sqlite(element: json_object, compiler: SQLCompiler, **options: object) -> str:
    return f"json_group_object({', '.join(_each(element, compiler, **options))})"


@compiles(json_object, "postgresql")
def _json_object_postgresql(element: json_object, compiler: SQLCompiler, **options: object) -> str:
    # As text, so that our decoder reads it and not the driver's.
    return f"CAST(json_object_agg({', '.join(_each(element, compiler, **options))}) AS TEXT)"


def _items(build: str, element: json_array, compiler: SQLCompiler, **options: object) -> str:
    each = _each(element, compiler, **options)
    return each[0] if len(each) == 1 else f"{build}({', '.join(each)})"


@compiles(json_array)
def _json_array(element: json_array, compiler: SQLCompiler, **options: object) -> str:
    return f"JSON_ARRAYAGG({_items('JSON_ARRAY', element, compiler, **options)})"


@compiles(json_array, "sqlite")
def _json_array_sqlite(element: json_array, compiler: SQLCompiler, **options: object) -> str:
    return f"json_group_array({_items('json_array', element, compiler, **options)})"


@compiles(json_array, "postgresql")
def _json_array_postgresql(element: json_array, compiler: SQLCompiler, **options: object) -> str:
    items = _items("json_build_array", element, compiler, **options)
    return f"CAST(json_agg({items}) AS TEXT)"


@compiles(if_short)
def _if_short(element: if_short, compiler: SQLCompiler, **options: object) -> str:
    found, most, *texts = _each(element, compiler, **options)
    lengths = " + ".join(f"coalesce(octet_length({text}), 0)" for text in texts)
    total = f"sum({lengths})"
    return f"CASE WHEN {total} <= {most} THEN {found} ELSE concat('+', {total}) END"


@compiles(if_short, "sqlite")
def _if_short_sqlite(element: if_short, compiler: SQLCompiler, **options: object) -> str:
    found, most, *_ = _each(element, compiler, **options)
    length = f"length(CAST({found} AS BLOB))"
    return f"CASE WHEN {length} <= {most} THEN {found} ELSE '+' || {length} END"


@compiles(if_short, "postgresql")
def _if_short_postgresql(element: if_short, compiler: SQLCompiler, **options: object) -> str:
    found, most, *_ = _each(element, compiler, **options)
    length = f"octet_length({found})"
    return f"CASE WHEN {length} <= {most} THEN {found} ELSE '+' || {length} END"


@compiles(unindexed)
def _unindexed(element: unindexed[object], compiler: SQLCompiler, **options: object) -> str:
    return _each(element, compiler, **options)[0]


@compiles(unindexed, "sqlite")
def _unindexed_sqlite(element: unindexed[object], compiler: SQLCompiler, **options: object) -> str:
    return "+" + _each(element, compiler, **options)[0]
