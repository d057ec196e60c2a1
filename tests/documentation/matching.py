"""Whether a program printed what a page shows; times, ids and numbers are others each time."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

_SAME = (
    (r"\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z| UTC)?", "TIME"),
    (r"\b[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}\b", "ID"),
    (r"\b[0-9a-f]{8,}\b|\d+(\.\d+)?", "N"),
    (r"[-=]{3,}", "---"),
    (r"\s+", " "),
)


def missing_line(shown: str, printed: str) -> str | None:
    """Return the first line of what is shown that was not printed, in this order.

    A line `…` stands for any number of lines; `…` in a line for anything in it. Further lines may
    have been printed between those that are shown.
    """
    rest = iter([_normal(line) for line in printed.splitlines()])
    for line in shown.splitlines():
        wanted = _pattern(line)
        if line.strip() and line.strip() != "…" and not any(map(wanted.fullmatch, rest)):
            return line
    return None


def _pattern(line: str) -> re.Pattern[str]:
    return re.compile(".*".join(re.escape(_normal(part)) for part in line.split("…")))


def _normal(line: str) -> str:
    for pattern, word in _SAME:
        line = re.sub(pattern, word, line)
    return line.strip()


def missing_key(shown: str, printed: str) -> str | None:
    """Return what of a JSON document is not in the other; values need only be of the same type."""
    return next(_differences(json.loads(shown), json.loads(printed), ""), None)


def _differences(shown: Any, printed: Any, where: str) -> Any:
    if type(shown) is not type(printed):
        yield f"{where or '/'} is {printed!r}"
    elif isinstance(shown, Mapping):
        for key, value in shown.items():
            if key in printed:
                yield from _differences(value, printed[key], f"{where}/{key}")
            else:
                yield f"{where}/{key} is not there"
    elif isinstance(shown, Sequence) and not isinstance(shown, str) and shown:
        if not printed:
            yield f"{where} is empty"
        else:
            yield from _differences(shown[0], printed[0], f"{where}/0")
