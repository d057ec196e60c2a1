"""What is asked: sequences of requests, read from YAML and multiplied by their matrices."""

import re
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from itertools import product
from pathlib import Path
from typing import Any

import attrs
import yaml

DIRECTORY = Path(__file__).with_name("sequences")
ROLES = ("admin", "demo", "alt", "reader", "service", "delegate", "nobody", "invalid")
"""Who may ask: five accounts, the service on behalf of `demo`, one without a token, and one whose
token is not valid."""

ROUNDS = 10
"""How often a race is run, unless it says otherwise."""

_PARAMETER = re.compile(r"\$\{(\w+)\}")
_BODIES = ("json", "patch", "patch20", "upload", "text", "base64")


@attrs.frozen
class Body:
    kind: str
    value: Any


@attrs.frozen
class Step:
    """One request. `{name}` in it stands for a value that is only known while it runs."""

    role: str
    method: str
    path: str
    headers: Mapping[str, str | None]
    """None takes away what would be sent otherwise."""
    body: Body | None
    save: Mapping[str, str]
    """Names for values of the answer: JSON pointers into its body."""
    chunked: bool
    brief: bool
    """Whether only the status is compared: the step prepares others."""
    settle: bool = False
    """Whether it is asked again until the server has done what it promised with a 202."""


@attrs.frozen
class Race:
    """Steps at the same time, several times over; there is more than one right outcome."""

    steps: Sequence[Step]
    after: Sequence[Step]
    rounds: int
    outcome: str
    """What is saved by the steps afterwards, to be told with the statuses."""
    possible: Sequence[str]
    """Patterns, as in a shell, for the outcomes that are right."""

    def is_possible(self, outcome: str) -> bool:
        return any(fnmatchcase(outcome, pattern) for pattern in self.possible)


@attrs.frozen
class RequestSequence:
    """Requests in their order, independent of all other sequences."""

    name: str
    steps: Sequence[Step]
    variant: str | None = None
    """The configuration that both servers need."""
    race: Race | None = None
    """What comes after the steps, if anything; then the steps only prepare it."""

    @property
    def requests(self) -> int:
        if self.race is None:
            return len(self.steps)
        once = len(self.steps) + len(self.race.steps) + len(self.race.after)
        return once * self.race.rounds

    def label(self, number: int) -> str:
        step = self.steps[number]
        return f"{number + 1} {step.role} {step.method} {step.path}"


def load(directory: Path = DIRECTORY) -> list[RequestSequence]:
    """Read all sequences, in the order of their files."""
    found: list[RequestSequence] = []
    common = _read(directory / "common.yaml")["common"]
    for path in sorted(directory.glob("*.yaml")):
        document = _read(path)
        for entry in document.get("sequences", []):
            found += _sequences(
                path.stem,
                {"variant": document.get("variant"), **entry},
                {**common, **document.get("common", {})},
            )
    names = [sequence.name for sequence in found]
    repeated = {name for name in names if names.count(name) > 1}
    if repeated:
        raise ValueError(f"sequences with the same name: {sorted(repeated)}")
    return found


def _read(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def _sequences(
    group: str, entry: Mapping[str, Any], common: Mapping[str, Any]
) -> Iterator[RequestSequence]:
    """Make one sequence for every variant and every combination of the values in the matrix."""
    several = isinstance(entry["variant"], list)
    for variant in entry["variant"] if several else [entry["variant"]]:
        prefix = (group, variant) if several else (group,)
        for labels, values in _combinations(entry.get("matrix", {})):
            name = "/".join((*prefix, entry["name"], *labels))
            steps = list(_steps(entry["steps"], values, common))
            yield RequestSequence(name, steps, variant, _race(entry, values, common))


def _race(
    entry: Mapping[str, Any], values: Mapping[str, Any], common: Mapping[str, Any]
) -> Race | None:
    if "together" not in entry:
        return None
    return Race(
        steps=list(_steps(entry["together"], values, common)),
        after=list(_steps(entry.get("after", ()), values, common)),
        rounds=entry.get("rounds", ROUNDS),
        outcome=entry.get("outcome", ""),
        possible=fill(entry["possible"], values),
    )


def _combinations(matrix: Mapping[str, Any]) -> Iterator[tuple[list[str], dict[str, Any]]]:
    """A dimension is a list of values, or a mapping from labels to values."""
    dimensions = [
        [(str(k), v) for k, v in values.items()]
        if isinstance(values, dict)
        else [(str(v), v) for v in values]
        for values in matrix.values()
    ]
    for chosen in product(*dimensions):
        values = [value for _, value in chosen]
        yield [label for label, _ in chosen], dict(zip(matrix, values, strict=True))


def _steps(
    entries: Sequence[Mapping[str, Any]], values: Mapping[str, Any], common: Mapping[str, Any]
) -> Iterator[Step]:
    for entry in entries:
        if "use" in entry:
            more = entry.get("with", {})
            yield from _steps(
                common[fill(entry["use"], values)], {**values, **fill(more, values)}, common
            )
            continue
        for _, each in _combinations(entry.get("each", {})):
            filled = fill({k: v for k, v in entry.items() if k != "each"}, {**values, **each})
            yield _step(filled)


def fill(value: Any, values: Mapping[str, Any]) -> Any:
    """Put values for `${name}`; where that is the whole text, a value of any type."""
    if isinstance(value, str):
        whole = _PARAMETER.fullmatch(value)
        if whole and whole[1] in values:
            return values[whole[1]]
        return _PARAMETER.sub(lambda found: str(values[found[1]]), value)
    if isinstance(value, list):
        return [fill(one, values) for one in value]
    if isinstance(value, dict):
        return {str(fill(name, values)): fill(one, values) for name, one in value.items()}
    return value


def _step(entry: Mapping[str, Any]) -> Step:
    known = {"as", "do", "headers", "save", "chunked", "brief", "settle", *_BODIES}
    if entry.keys() - known or entry["as"] not in ROLES:
        raise ValueError(f"a step that nobody understands: {entry}")
    method, path = entry["do"].split(" ", 1)
    bodies = [Body(kind, entry[kind]) for kind in _BODIES if kind in entry]
    return Step(
        role=entry["as"],
        method=method,
        path=path,
        headers=entry.get("headers", {}),
        body=bodies[0] if bodies else None,
        save=entry.get("save", {}),
        chunked=entry.get("chunked", False),
        brief=entry.get("brief", False),
        settle=entry.get("settle", False),
    )
