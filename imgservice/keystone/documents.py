"""The JSON documents of Keystone, of which nothing is taken for granted."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, TypeVar

from imgservice.keystone.errors import KeystoneError

T = TypeVar("T")

Document = Mapping[str, Any]
"""A JSON object. `Any`: its values are checked where they are read, and by nothing before that."""


def read_expiry(document: Document) -> float:
    """Return when the token expires; `KeystoneError` unless the document is Keystone's."""
    return careful(lambda: expiry(token_of(document)))


def careful(read: Callable[[], T]) -> T:
    """Return what `read` finds; `KeystoneError` when it stumbles."""
    try:
        return read()
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError):
        raise KeystoneError("describes a token in a way that is not Keystone's") from None


def token_of(document: Document) -> Document:
    token: Document = document["token"]
    return token


def expiry(token: Document) -> float:
    moment = datetime.fromisoformat(text(token["expires_at"]))
    if moment.tzinfo is None:
        raise ValueError("a moment without a time zone")
    return moment.timestamp()


def text(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise TypeError("expected text")
    return value
