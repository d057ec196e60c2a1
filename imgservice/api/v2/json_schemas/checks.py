"""Checks of documents, compiled from JSON schemas."""

import re
from collections.abc import Callable
from functools import lru_cache
from typing import TypeAlias

import attrs
import fastjsonschema
import orjson

from imgservice.api.v2.json_schemas.fields import UUID, Schema
from imgservice.domain.errors import Invalid
from imgservice.domain.patterns import Pattern, compiled

Check: TypeAlias = Callable[[object], object]
LONGEST_FORMATTED = 2048
"""Characters of a value that has a `format`, such as a date or a URL."""


def compiled_schema(schema: Schema) -> Check:
    """Return what checks a value; `ValueError` for a pattern whose cost nothing bounds."""
    return _compiled_once(orjson.dumps(schema))


@lru_cache(maxsize=8)
def _compiled_once(schema: bytes) -> Check:
    compiled_check = fastjsonschema.compile(orjson.loads(schema), use_default=False)
    expressions = compiled_check.__globals__["REGEX_PATTERNS"]
    for name, expression in expressions.items():
        if re.fullmatch("[a-z-]+_re_pattern", name):  # of the library itself
            expressions[name] = _Format(expression)
        elif name != UUID:
            expressions[name] = _bounded(expression.pattern)
    check: Check = compiled_check
    return check


def _bounded(expression: str) -> Pattern:
    try:
        return compiled(expression, short=False)
    except ValueError as error:
        raise ValueError(f"the pattern {expression} {error}") from None


@attrs.frozen
class _Format:
    """A format of the library, for values that are not too long for it."""

    _expression: re.Pattern[str]

    def match(self, text: str) -> object:
        return len(text) <= LONGEST_FORMATTED and self._expression.match(text)

    search = match


def check_image(check: Check, document: object) -> None:
    """Raise `Invalid`, naming the field and what it should be."""
    try:
        check(document)
    except fastjsonschema.JsonSchemaValueException as error:
        reason = re.sub(r"^data\.?", "", error.message)
        raise Invalid(f"Provided object does not match schema 'image': {reason}") from None
