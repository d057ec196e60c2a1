"""Access rules of application credentials: the requests to which such a token is restricted."""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import islice
from urllib.parse import unquote

import attrs

SERVICE = "image"
LONGEST_PATH = 1024
MOST_RULES = 256
"""Rules for one method that are evaluated; there are some 20 different paths."""
_PARTS = re.compile(r"(?:\*\*)++|\*|\{[^}]*+\}|.", re.DOTALL)
_PARTS_WITHOUT_NAMES = re.compile(r"(?:\*\*)++|.", re.DOTALL)


@attrs.frozen
class AccessRule:
    """`method` on the paths of `pattern`: `*` and `{name}` match one segment or a
    part of it that is not empty, `**` anything."""

    service: str
    method: str
    pattern: str


def permits(rules: Sequence[AccessRule] | None, method: str, path: str) -> bool:
    """Tell whether the rules allow a request; None allows everything, an empty list nothing."""
    if rules is None:
        return True
    path = unquote(path)
    if len(path) > LONGEST_PATH:
        return False
    fitting = (one.pattern for one in rules if one.service == SERVICE and one.method == method)
    return any(matches(pattern, path) for pattern in islice(fitting, MOST_RULES))


def matches(pattern: str, path: str) -> bool:
    """Tell whether the path matches, in linear time: users write the patterns, and a backtracking
    expression could take hours."""
    compiled = _compile(pattern)
    reached = compiled.skip(1)
    for character in path:
        reached = compiled.skip(compiled.advance(reached, character))
        if not reached:
            return False
    return bool(reached >> compiled.length & 1)


@attrs.frozen
class _Pattern:
    """Sets of places in the pattern, each set a number with a bit for each place.

    A place is before a character, or before one that is no slash, or at a wildcard.
    """

    length: int
    characters: Mapping[str, int]
    no_slash: int
    anything: int
    """Wildcards for any number of any characters."""
    segment: int
    """Wildcards for any number of characters that are no slashes."""

    def advance(self, reached: int, character: str) -> int:
        """Return the places that are reached with this character."""
        stay, go = self.anything, self.characters.get(character, 0)
        if character != "/":
            stay, go = stay | self.segment, go | self.no_slash
        return reached & stay | (reached & go) << 1

    def skip(self, reached: int) -> int:
        """Add the places that are reached without a character: those behind wildcards."""
        wildcards = self.anything | self.segment
        # The sum carries from the first place reached in a row of wildcards to behind its last.
        return reached | ((wildcards + (reached & wildcards)) ^ wildcards)


@lru_cache(1024)
def _compile(pattern: str) -> _Pattern:
    characters: dict[str, int] = {}
    no_slash = anything = segment = place = 0
    for part in _parts(pattern):
        bit = 1 << place
        if part.startswith("**"):
            anything |= bit
        elif part == "*" or len(part) > 1:
            no_slash, segment, place = no_slash | bit, segment | bit << 1, place + 1
        else:
            characters[part] = characters.get(part, 0) | bit
        place += 1
    return _Pattern(place, characters, no_slash, anything, segment)


def _parts(pattern: str) -> list[str]:
    """Split into wildcards and characters; no `{` behind the last `}` begins a name."""
    end = pattern.rfind("}") + 1
    return _PARTS.findall(pattern[:end]) + _PARTS_WITHOUT_NAMES.findall(pattern[end:])
