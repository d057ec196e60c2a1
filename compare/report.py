"""What a person reads at the end."""

from collections.abc import Iterator, Sequence
from itertools import groupby

from compare.differences import Difference, Verdict


def report(verdict: Verdict, sequences: int, steps: int, compared: int) -> Iterator[str]:
    yield from _unexplained(verdict.unexplained)
    yield "Wanted differences:"
    for entry, count in verdict.explained.items():
        if count:
            yield f"  {count:5} x  {entry.reason}"
    for entry in verdict.stale:
        yield f"STALE: no difference fits any more: {entry.sequence} {entry.aspect}: {entry.reason}"
    yield (
        f"{sequences} sequences, {steps} requests, {compared} values compared:"
        f" {sum(verdict.explained.values())} wanted differences,"
        f" {len(verdict.unexplained)} unexplained, {len(verdict.stale)} stale entries"
    )


def _unexplained(differences: Sequence[Difference]) -> Iterator[str]:
    for sequence, of_sequence in groupby(differences, lambda one: one.sequence):
        yield sequence
        for step, of_step in groupby(of_sequence, lambda one: one.step):
            yield f"  {step}"
            for one in of_step:
                yield f"    {one.aspect}: peer {one.peer[:200]}, ours {one.ours[:200]}"
