"""The figures of one item, and how they are printed."""

import statistics
from collections.abc import Iterator

import attrs

# Columns that ours is divided by, in this order.
COMPARED = ("limit", "select", "base")
ORDER = ("ours", "indexed", "base", "limit", "select")
_WORKERS = ("worker", "workers")
# The growth of a server that hardly grows is a poor divisor.
NOT_COMPARED = ("memory growth",)


@attrs.define
class Row:
    """One figure of every contestant, once per round: values by column."""

    work: str
    measure: str
    unit: str
    values: dict[str, list[float]] = attrs.Factory(dict)

    def median(self, column: str) -> float | None:
        """Return the median of the rounds, None when the column has no figure here."""
        values = self.values.get(column)
        return statistics.median(values) if values else None

    def ratio(self, over: str, under: str) -> float | None:
        """Return one column divided by the other, None where that says nothing."""
        if self.measure in NOT_COMPARED:
            return None
        dividend, divisor = self.median(over), self.median(under)
        return dividend / divisor if dividend is not None and divisor else None


@attrs.define
class Table:
    """Rows in the order in which they were first measured."""

    name: str
    legend: str
    rows: list[Row] = attrs.Factory(list)

    def add(self, column: str, work: str, measure: str, unit: str, value: float | None) -> None:
        """Add what one round gave; None means that this contestant has no such figure."""
        if value is not None:
            self._row(work, measure, unit).values.setdefault(column, []).append(value)

    def text(self) -> str:
        """Return the table as text."""
        columns = self._columns()
        ratios = self._ratios(columns)
        head = [self.name, "", "unit", *columns, *(f"{over}/{under}" for over, under in ratios)]
        lines = [head, *self._lines(columns, ratios)]
        return "\n".join([*_aligned(lines), self.legend])

    def _row(self, work: str, measure: str, unit: str) -> Row:
        for row in self.rows:
            if (row.work, row.measure) == (work, measure):
                return row
        self.rows.append(Row(work, measure, unit))
        return self.rows[-1]

    def _columns(self) -> list[str]:
        found = dict.fromkeys(column for row in self.rows for column in row.values)
        first = [column for column in ORDER if column in found]
        return first + [column for column in found if column not in ORDER]

    def _ratios(self, columns: list[str]) -> list[tuple[str, str]]:
        if "ours" not in columns:
            return []
        return [
            *(("ours", column) for column in COMPARED if column in columns),
            *((column, "ours") for column in columns if column.endswith(_WORKERS)),
        ]

    def _lines(self, columns: list[str], ratios: list[tuple[str, str]]) -> Iterator[list[str]]:
        before = ""
        for row in self.rows:
            figures = [spread(row.values.get(column, [])) for column in columns]
            quotients = [plain(row.ratio(*pair)) for pair in ratios]
            yield [
                row.work if row.work != before else "",
                row.measure,
                row.unit,
                *figures,
                *quotients,
            ]
            before = row.work


def workers_of(number: int) -> str:
    """Name the column of ours with so many workers, beside that with another number."""
    return f"{number} {_WORKERS[number != 1]}"


def spread(values: list[float]) -> str:
    """Return the median, and the range when there is one."""
    if not values:
        return "-"
    median = plain(statistics.median(values))
    low, high = plain(min(values)), plain(max(values))
    return median if low == high else f"{median} [{low}..{high}]"


def plain(value: float | None) -> str:
    """Return a figure with three digits or so."""
    if value is None:
        return "-"
    if value == int(value) or abs(value) >= 100:
        return f"{value:.0f}"
    if abs(value) < 0.1:
        return f"{value:.2g}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def _aligned(lines: list[list[str]]) -> Iterator[str]:
    widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    for line in lines:
        cells = [cell.ljust(width) for cell, width in zip(line, widths, strict=True)]
        yield "  ".join(cells).rstrip()
