"""Inputs that make parsers go back and try again, and how their cost grows."""

import time
from collections.abc import Callable, Iterator, Sequence

import attrs

GROWTH = 8
"""How much longer the second input is."""
MOST = 3 * GROWTH
"""How much dearer it may be: what is quadratic is 64 times as dear."""
NOTHING = 0.0005
"""Seconds below which a cost is taken for this much; nobody is kept waiting by `MOST` of them."""
TRIES = 4

UNITS = (
    " ", "\t", ",", ", ", ";", ":", "=", "-", "/", "\\", '"', '\\"', "'", "[", "]", "{", "}",
    "(", ")", "<", "~", "~1", "%", "%20", "%25", "*", "**", "*{a}", "@", ".", "..", "|", "$",
    "${", "#", "?", "&", "a", "A", "0", "9", "a ", "a,", "a=", "a=b;", 'a="', "a=,", '"a",', '"a" ',
    "1-", "W/", 'W/"a",', "a:b,", "/a", "://", "a@", "-----", "a\n", "\n", "[a]\n", "é", "a/b;q=1,",
    "for=a,", "127.0.0.1,", "not ", "a or ", "1.", "::", "xn--",
)  # fmt: skip


@attrs.frozen
class Parser:
    """What reads a text from outside, and the longest that it is ever given."""

    read: Callable[[str], object]
    longest: int
    prefixes: Sequence[str] = ("",)
    suffixes: Sequence[str] = ("", "!", '"')

    def families(self) -> Iterator[tuple[str, str, str]]:
        return (
            (prefix, unit, suffix)
            for prefix in self.prefixes
            for unit in UNITS
            for suffix in self.suffixes
        )


def superlinear(parser: Parser) -> list[str]:
    """Return the families of inputs whose cost grows faster than their length."""
    return [
        f"{prefix!r} + {unit!r} * n + {suffix!r}: {costs}"
        for prefix, unit, suffix in parser.families()
        if (costs := _grows(parser, prefix, unit, suffix))
    ]


def _grows(parser: Parser, prefix: str, unit: str, suffix: str) -> str:
    """Measure two lengths, and again while that looks bad: others use the machine, too."""

    def cost(length: int) -> float:
        text = prefix + unit * (length // len(unit)) + suffix
        start = time.thread_time()
        parser.read(text)
        return time.thread_time() - start

    short = long = float("inf")
    for _ in range(TRIES):
        short = min(short, cost(parser.longest // GROWTH))
        long = min(long, cost(parser.longest))
        if long <= MOST * max(short, NOTHING):
            return ""
    return f"{short * 1000:.2f} ms, then {long * 1000:.2f} ms"
