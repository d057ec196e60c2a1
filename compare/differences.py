"""Where two answers differ, and which of the differences are wanted."""

import json
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import attrs
import yaml

from compare.normal import Response
from compare.replay import Played
from compare.sequences import Race, RequestSequence

WANTED = Path(__file__).with_name("wanted.yaml")
ABSENT = "(absent)"


@attrs.frozen
class Difference:
    sequence: str
    step: str
    aspect: str
    """`status`, `header:NAME`, `body/POINTER`, or `rows/NUMBER/TABLE/POINTER`; and
    `body/images:order`, the ids in a list; and `outcome` of a race."""
    peer: str
    ours: str


@attrs.frozen
class Wanted:
    """A difference that is meant to be; all of its patterns must fit."""

    reason: str
    sequence: str = "*"
    step: str = "*"
    aspect: str = "*"
    peer: str = "*"
    ours: str = "*"
    sometimes: bool = False
    """Whether chance decides if there is such a difference: then the entry is never stale."""

    def fits(self, difference: Difference) -> bool:
        return all(
            fnmatchcase(getattr(difference, name), getattr(self, name))
            for name in ("sequence", "step", "aspect", "peer", "ours")
        )


@attrs.frozen
class Comparison:
    differences: list[Difference]
    compared: int
    """How many pairs of values were looked at."""


def load_wanted(path: Path = WANTED) -> list[Wanted]:
    return [Wanted(**entry) for entry in yaml.safe_load(path.read_text(encoding="utf-8"))]


def compare(sequence: RequestSequence, peer: Played, ours: Played) -> Comparison:
    found: list[Difference] = []
    compared = 0
    for step, aspect, left, right in _pairs(sequence, peer, ours):
        compared += 1
        if left != right:
            found.append(Difference(sequence.name, step, aspect, _show(left), _show(right)))
    if sequence.race is not None:
        found += _impossible(sequence.name, sequence.race, peer.outcomes, ours.outcomes)
        compared += len(peer.outcomes) + len(ours.outcomes)
    return Comparison(found, compared)


def _impossible(
    name: str, race: Race, peer: Sequence[str], ours: Sequence[str]
) -> Iterator[Difference]:
    """Neither server has to be as lucky as the other, but both have to be right."""
    for outcome in peer:
        if not race.is_possible(outcome):
            yield Difference(name, "together", "outcome", outcome, ABSENT)
    for outcome in ours:
        if not race.is_possible(outcome):
            yield Difference(name, "together", "outcome", ABSENT, outcome)


Pair = tuple[str, str, Any, Any]
_NOTHING = object()


def _pairs(sequence: RequestSequence, peer: Played, ours: Played) -> Iterator[Pair]:
    for number, (left, right) in enumerate(zip(peer.answers, ours.answers, strict=True)):
        for aspect, one, other in _answers(left, right):
            yield sequence.label(number), aspect, one, other
    if peer.rows is not None and ours.rows is not None:
        for aspect, one, other in _values("rows", peer.rows, ours.rows):
            yield "afterwards", aspect, one, other


def _answers(peer: Response, ours: Response) -> Iterator[tuple[str, Any, Any]]:
    """After a wrong status the rest of an answer says nothing."""
    yield "status", peer.status, ours.status
    if peer.status != ours.status:
        return
    for name in sorted({*peer.headers, *ours.headers}):
        yield f"header:{name}", peer.headers.get(name, _NOTHING), ours.headers.get(name, _NOTHING)
    yield from _values("body", peer.body, ours.body)


def _values(pointer: str, peer: Any, ours: Any) -> Iterator[tuple[str, Any, Any]]:
    if pointer == "body/images":
        # One difference, not one for every value of every image that stands elsewhere.
        yield f"{pointer}:order", _ids(peer), _ids(ours)
        if _ids(peer) != _ids(ours):
            return
    if isinstance(peer, dict) and isinstance(ours, dict):
        members: Mapping[str, tuple[Any, Any]] = {
            str(name): (peer.get(name, _NOTHING), ours.get(name, _NOTHING))
            for name in sorted({*peer, *ours})
        }
    elif isinstance(peer, list) and isinstance(ours, list) and len(peer) == len(ours):
        members = {str(number): pair for number, pair in enumerate(zip(peer, ours, strict=True))}
    else:
        members = {}
    if not members:
        yield pointer, peer, ours
    for name, (left, right) in members.items():
        yield from _values(f"{pointer}/{name}", left, right)


def _ids(images: Any) -> Any:
    return [one.get("id") for one in images] if isinstance(images, list) else images


def _show(value: Any) -> str:
    return ABSENT if value is _NOTHING else json.dumps(value, sort_keys=True)


@attrs.frozen
class Verdict:
    """What is left to explain."""

    unexplained: list[Difference]
    explained: Mapping[Wanted, int]
    stale: list[Wanted]
    """Entries that fitted nothing: what they tell of is no more."""


def judge(differences: Sequence[Difference], wanted: Sequence[Wanted]) -> Verdict:
    unexplained = []
    explained = dict.fromkeys(wanted, 0)
    for difference in differences:
        fitting = [entry for entry in wanted if entry.fits(difference)]
        for entry in fitting:
            explained[entry] += 1
        if not fitting:
            unexplained.append(difference)
    stale = [entry for entry, n in explained.items() if n == 0 and not entry.sometimes]
    return Verdict(unexplained, explained, stale)
