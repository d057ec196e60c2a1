"""Regular expressions mean the same in every Python that we support.

Before 3.11.5 a possessive quantifier of a group that can match in several ways may find nothing
(gh-106052): Debian 12 has 3.11.2. An atomic group around the same, `(?>(?:a|b)*)`, is right in all.
"""

import pkgutil
import re
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import pytest

import imgservice

parser: Any = vars(re)["_parser"]
SEVERAL_WAYS = {"BRANCH", "MAX_REPEAT", "MIN_REPEAT"}


def _patterns() -> Iterator[tuple[str, re.Pattern[Any]]]:
    for module in pkgutil.walk_packages(imgservice.__path__, "imgservice."):
        if "versions" in module.name or "alembic" in module.name or module.name.endswith(".env"):
            continue
        for name, value in vars(import_module(module.name)).items():
            if isinstance(value, re.Pattern):
                yield f"{module.name}.{name}", value


def _doubtful(parsed: Any, possessive: bool = False) -> bool:
    """Tell whether something that can match in several ways is repeated possessively."""
    for operation, argument in parsed:
        name = str(operation)
        if possessive and name in SEVERAL_WAYS:
            return True
        inner = possessive or name == "POSSESSIVE_REPEAT"
        if any(_doubtful(one, inner and name != "ATOMIC_GROUP") for one in _within(argument)):
            return True
    return False


def _within(argument: Any) -> Iterator[Any]:
    if isinstance(argument, parser.SubPattern):
        yield argument
    elif isinstance(argument, list | tuple):
        for one in argument:
            yield from _within(one)


PATTERNS = dict(_patterns())


@pytest.mark.parametrize("name", PATTERNS)
def test_possessive_quantifiers_are_of_what_matches_in_one_way(name: str) -> None:
    pattern = PATTERNS[name]
    assert not _doubtful(parser.parse(pattern.pattern, pattern.flags & ~re.UNICODE))


@pytest.mark.parametrize(
    ("pattern", "doubtful"),
    [
        (r"(?:a|bc)*+d", True),
        (r"(?:a+b)++", True),
        (r"(?:a(?:b)?)*+", True),
        (r"(?>(?:a|bc)*)d", False),
        (r"(?:a++b)*+", False),
        (r"a++|b*+", False),
    ],
)
def test_it_is_seen(pattern: str, doubtful: bool) -> None:
    assert _doubtful(parser.parse(pattern)) == doubtful
