"""Which regular expressions can go back and try again: those that leave a choice to a repeat.

An expression in which the next character always tells whether a repeat goes on or ends, and which
alternative is meant, is read in one go. So is what is possessive: it never gives anything back.
"""

from collections.abc import Iterator
from re import _compiler, _constants, _parser  # type: ignore[attr-defined]
from typing import Any

FEW = 64
"""A repeat of at most so many is no danger."""
ALPHABET = "".join(map(chr, range(256))) + "\u0660\u2028\ufffd"
EVERYTHING = frozenset(ALPHABET)
REPEATS = (_constants.MAX_REPEAT, _constants.MIN_REPEAT, _constants.POSSESSIVE_REPEAT)
LOOKS = (_constants.ASSERT, _constants.ASSERT_NOT)
NOWHERE: frozenset[str] = frozenset()


def ambiguities(pattern: str | bytes, flags: int = 0) -> list[str]:
    """Return what is wrong with the expression, as something to match from one place on."""
    return list(_Reading(pattern, flags).sequence(None, NOWHERE, is_repeated=False))


def is_short(pattern: str | bytes, flags: int = 0) -> bool:
    """Tell whether it matches a few characters only, so that it may be searched for anywhere."""
    return bool(_parser.parse(pattern, flags).getwidth()[1] <= FEW)


class _Reading:
    def __init__(self, pattern: str | bytes, flags: int) -> None:
        self._is_bytes = isinstance(pattern, bytes)
        self._tree = _parser.parse(pattern, flags)

    def sequence(self, items: Any, after: frozenset[str], *, is_repeated: bool) -> Iterator[str]:
        """Look at parts that follow one another; `after` is what may come behind all of them."""
        parts = list(self._tree if items is None else items)
        for number, part in enumerate(parts):
            yield from self._part(part, self._first(parts[number + 1 :], after), is_repeated)

    def _part(self, part: Any, after: frozenset[str], is_repeated: bool) -> Iterator[str]:
        kind, value = part
        if kind in REPEATS:
            yield from self._repeat(kind, value, after, is_repeated)
        elif kind is _constants.SUBPATTERN:
            yield from self.sequence(value[3], after, is_repeated=is_repeated)
        elif kind is _constants.ATOMIC_GROUP:
            yield from self.sequence(value, NOWHERE, is_repeated=is_repeated)
        elif kind is _constants.BRANCH:
            yield from self._branch(value[1], after, is_repeated)
        elif kind in LOOKS:
            yield from self.sequence(value[1], NOWHERE, is_repeated=is_repeated)

    def _repeat(
        self, kind: Any, value: Any, after: frozenset[str], is_repeated: bool
    ) -> Iterator[str]:
        least, most, body = value
        many = is_repeated or most > FEW
        first = self._first(body, NOWHERE)
        keeps = kind is _constants.POSSESSIVE_REPEAT
        if many and least != most and not keeps and first & after:
            yield f"a repeat goes on, or ends, with {sorted(first & after)[:3]}"
        if most > FEW and body.getwidth()[0] == 0:
            yield "a repeat of what may be empty"
        yield from self.sequence(body, first if keeps else first | after, is_repeated=many)

    def _branch(self, branches: Any, after: frozenset[str], is_repeated: bool) -> Iterator[str]:
        seen: frozenset[str] = NOWHERE
        for branch in branches:
            first = self._first(branch, after)
            if is_repeated and first & seen:
                yield f"two alternatives begin with {sorted(first & seen)[:3]}"
            seen |= first
            yield from self.sequence(branch, after, is_repeated=is_repeated)

    def _first(self, items: Any, after: frozenset[str]) -> frozenset[str]:
        """Return the characters that may come next, `after` if the parts may be empty."""
        found: frozenset[str] = NOWHERE
        for kind, value in items:
            if kind is _constants.AT or kind in LOOKS:
                continue
            characters, may_be_empty = self._begin(kind, value)
            found |= characters
            if not may_be_empty:
                return found
        return found | after

    def _begin(self, kind: Any, value: Any) -> tuple[frozenset[str], bool]:
        if kind in REPEATS:
            least, _, body = value
            return self._first(body, NOWHERE), least == 0 or body.getwidth()[0] == 0
        if kind is _constants.SUBPATTERN:
            return self._first(value[3], NOWHERE), value[3].getwidth()[0] == 0
        if kind is _constants.ATOMIC_GROUP:
            return self._first(value, NOWHERE), value.getwidth()[0] == 0
        if kind is _constants.BRANCH:
            firsts = [self._first(branch, NOWHERE) for branch in value[1]]
            empty = any(branch.getwidth()[0] == 0 for branch in value[1])
            return frozenset().union(*firsts), empty
        if kind is _constants.GROUPREF:
            return EVERYTHING, True
        return self._characters(kind, value), False

    def _characters(self, kind: Any, value: Any) -> frozenset[str]:
        """Ask the library itself which characters one part of the expression matches."""
        one = _compiler.compile(_parser.SubPattern(self._tree.state, [(kind, value)]))
        if self._is_bytes:
            return frozenset(c for c in ALPHABET[:256] if one.match(c.encode("latin-1")))
        return frozenset(c for c in ALPHABET if one.match(c))
