"""SQL that each database spells its own way: JSON aggregates, and a hint to SQLite's planner."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement


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


class unindexed(FunctionElement[Any]):
    """A column whose indexes SQLite shall not consider.

    Without statistics SQLite believes that an index on a flag such as `deleted` is as selective
    as any other, and would walk half of the table with it. Other databases know better.
    """

    inherit_cache = True

    def __init__(self, column: sa.ColumnElement[Any]) -> None:
        super().__init__(column)
        self.type = column.type


def _each(element: FunctionElement[Any], compiler: SQLCompiler, **options: Any) -> list[str]:
    return [compiler.process(clause, **options) for clause in element.clauses]


@compiles(json_object)
def _json_object(element: json_object, compiler: SQLCompiler, **options: Any) -> str:
    return f"JSON_OBJECTAGG({', '.join(_each(element, compiler, **options))})"


@compiles(json_object, "sqlite")
def _json_object_sqlite(element: json_object, compiler: SQLCompiler, **options: Any) -> str:
    return f"json_group_object({', '.join(_each(element, compiler, **options))})"


@compiles(json_object, "postgresql")
def _json_object_postgresql(element: json_object, compiler: SQLCompiler, **options: Any) -> str:
    # As text, so that our decoder reads it and not the driver's.
    return f"CAST(json_object_agg({', '.join(_each(element, compiler, **options))}) AS TEXT)"


def _items(build: str, element: json_array, compiler: SQLCompiler, **options: Any) -> str:
    each = _each(element, compiler, **options)
    return each[0] if len(each) == 1 else f"{build}({', '.join(each)})"


@compiles(json_array)
def _json_array(element: json_array, compiler: SQLCompiler, **options: Any) -> str:
    return f"JSON_ARRAYAGG({_items('JSON_ARRAY', element, compiler, **options)})"


@compiles(json_array, "sqlite")
def _json_array_sqlite(element: json_array, compiler: SQLCompiler, **options: Any) -> str:
    return f"json_group_array({_items('json_array', element, compiler, **options)})"


@compiles(json_array, "postgresql")
def _json_array_postgresql(element: json_array, compiler: SQLCompiler, **options: Any) -> str:
    items = _items("json_build_array", element, compiler, **options)
    return f"CAST(json_agg({items}) AS TEXT)"


@compiles(unindexed)
def _unindexed(element: unindexed, compiler: SQLCompiler, **options: Any) -> str:
    return _each(element, compiler, **options)[0]


@compiles(unindexed, "sqlite")
def _unindexed_sqlite(element: unindexed, compiler: SQLCompiler, **options: Any) -> str:
    return "+" + _each(element, compiler, **options)[0]
