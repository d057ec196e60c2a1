"""What a run says: tables as they come, problems, and all of it as JSON."""

import datetime
import json
import os
import platform
import sys
import time
from pathlib import Path

import attrs

from bench.options import Options
from bench.table import Table


@attrs.define
class Report:
    """Prints at once what it is told, and keeps it.

    A problem is something that a server did wrong; a remark explains a figure that is missing or
    doubtful.
    """

    tables: list[Table] = attrs.Factory(list)
    problems: list[str] = attrs.Factory(list)
    remarks: list[str] = attrs.Factory(list)
    _begin: float = attrs.Factory(time.monotonic)
    _load_before: float = attrs.Factory(lambda: os.getloadavg()[0])

    @property
    def seconds(self) -> float:
        """How long the run has taken so far."""
        return time.monotonic() - self._begin

    def begin(self, item: str) -> None:
        """Say on stderr what is being measured."""
        print(f"[{self.seconds:3.0f} s] {item} ...", file=sys.stderr, flush=True)

    def table(self, table: Table) -> None:
        """Print a finished table."""
        self.tables.append(table)
        print(f"\n{table.text()}\n", flush=True)

    def problem(self, text: str) -> None:
        """Something is wrong: the run ends with 1."""
        self.problems.append(text)
        print(f"PROBLEM: {text}", flush=True)

    def remark(self, text: str) -> None:
        """Say it once, however often it is found."""
        if text not in self.remarks:
            self.remarks.append(text)
            print(f"note: {text}", flush=True)

    def end(self) -> None:
        """Print the problems again, where they cannot be missed, and how quiet the machine was."""
        load = os.getloadavg()[0]
        print(
            f"{self.seconds:.0f} s; load average {self._load_before:.2f} before, {load:.2f} after"
        )
        for text in self.problems:
            print(f"PROBLEM: {text}")

    def write(self, file: Path, options: Options) -> None:
        """Write everything as JSON, every round by itself. What is secret is not written."""
        shown = attrs.asdict(attrs.evolve(options, base_token=None, base_database=None))
        content = {
            "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "machine": {"cores": os.cpu_count(), "kernel": platform.release()},
            "python": platform.python_version(),
            "options": {name: _jsonable(value) for name, value in shown.items()},
            "seconds": round(self.seconds),
            "load_before": self._load_before,
            "load_after": os.getloadavg()[0],
            "tables": [attrs.asdict(table) for table in self.tables],
            "problems": self.problems,
            "remarks": self.remarks,
        }
        file.write_text(json.dumps(content, indent=1) + "\n")


def _jsonable(value: object) -> object:
    return str(value) if isinstance(value, Path) else value
