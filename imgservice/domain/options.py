"""Declares options: the default of each, and what it does."""

from typing import Any

import attrs


def option(default: Any, doc: str) -> Any:
    """Declare a key with its default and the sentence that the sample file says about it."""
    if callable(default):
        return attrs.field(factory=default, metadata={"doc": doc})
    return attrs.field(default=default, metadata={"doc": doc})


def required(doc: str) -> Any:
    """Declare a key that has no default."""
    return attrs.field(metadata={"doc": doc})
