"""Statements: written once in SQLAlchemy Core, compiled once per dialect, run without an engine."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import attrs
from sqlalchemy import Dialect
from sqlalchemy.sql import ClauseElement
from sqlalchemy.sql.compiler import SQLCompiler

Parameters = Mapping[str, object]
Process = Callable[[object], object]
Row = tuple[Any, ...]


@attrs.frozen
class Compiled:
    """The text of a statement in one dialect, and the conversions of its values."""

    sql: str
    names: tuple[str, ...]
    """The parameters, in the order of their positions in the text."""
    constants: Parameters
    bind: tuple[tuple[int, Process], ...]
    result: tuple[tuple[int, Process], ...]

    def values(self, parameters: Parameters) -> list[object]:
        """Return the values for the DBAPI; `KeyError` names a missing parameter."""
        given = {**self.constants, **parameters} if self.constants else parameters
        values: list[object] = [given[name] for name in self.names]
        for position, process in self.bind:
            values[position] = process(values[position])
        return values

    def rows(self, raw: Sequence[Row]) -> Sequence[Row]:
        """Return the DBAPI's rows as rows of Python values."""
        return [self._row(row) for row in raw] if self.result else raw

    def _row(self, raw: Row) -> Row:
        row = list(raw)
        for position, process in self.result:
            row[position] = process(row[position])
        return tuple(row)


class Statement:
    """One shape of SQL; its values come by name with every execution.

    Keep a statement and run it often: it remembers its compiled forms.
    """

    def __init__(self, core: ClauseElement) -> None:
        self._core = core
        self._compiled: dict[str, Compiled] = {}

    def compiled(self, dialect: Dialect) -> Compiled:
        found = self._compiled.get(dialect.name)
        if found is None:
            found = self._compiled[dialect.name] = _compile(self._core, dialect)
        return found


def _compile(core: ClauseElement, dialect: Dialect) -> Compiled:
    compiler = core.compile(dialect=dialect)
    if not isinstance(compiler, SQLCompiler) or compiler.positiontup is None:
        raise TypeError(f"{core!r} is no statement with parameters by position")
    names = tuple(compiler.positiontup)
    binds = (compiler.binds[name].type.dialect_impl(dialect) for name in names)
    columns = getattr(core, "exported_columns", ())
    results = (column.type.dialect_impl(dialect) for column in columns)
    return Compiled(
        sql=str(compiler),
        names=names,
        constants={n: bind.value for n, bind in compiler.binds.items() if not bind.required},
        bind=_positions(kind.bind_processor(dialect) for kind in binds),
        result=_positions(kind.result_processor(dialect, None) for kind in results),
    )


def _positions(processes: Iterable[Process | None]) -> tuple[tuple[int, Process], ...]:
    return tuple((position, process) for position, process in enumerate(processes) if process)
