"""Reads what Keystone says of a token, and takes nothing for granted."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TypeVar

import attrs

from imgservice.auth.keystone.access_rules import AccessRule
from imgservice.auth.keystone.documents import Document
from imgservice.auth.keystone.errors import KeystoneError
from imgservice.domain.context import Context

T = TypeVar("T")


@attrs.frozen
class Identity:
    """The user of a token, and until when it is valid."""

    context: Context
    expires: float
    """Seconds since 1970."""
    access_rules: Sequence[AccessRule] | None = None


def read_expiry(document: Document) -> float:
    """Return when the token expires; `KeystoneError` unless the document is Keystone's."""
    return _careful(lambda: _expires(_token(document)))


def read_identity(document: Document) -> Identity | None:
    """Return the user of the token; None if we cannot tell whether the caller may use it.

    `KeystoneError` unless the document is Keystone's.
    """
    return _careful(lambda: _identity(_token(document)))


def _careful(read: Callable[[], T]) -> T:
    try:
        return read()
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError):
        raise KeystoneError("describes a token in a way that is not Keystone's") from None


def _identity(token: Document) -> Identity | None:
    if token.get("bind"):  # to something, such as a Kerberos ticket, that we do not see
        return None
    user, project, system = token["user"], token.get("project"), token.get("system")
    context = Context(
        user=_text(user["id"]),
        project=_text(project["id"]) if project else None,
        roles=frozenset(_text(role["name"]).lower() for role in token.get("roles") or ()),
        user_domain=_text(user["domain"]["id"]),
        project_domain=_text(project["domain"]["id"]) if project else None,
        system_scope="all" if system and system.get("all") is True else None,
        domain=_text(token["domain"]["id"]) if token.get("domain") else None,
    )
    return Identity(context, _expires(token), _access_rules(token))


def _token(document: Document) -> Document:
    token: Document = document["token"]
    return token


def _expires(token: Document) -> float:
    moment = datetime.fromisoformat(_text(token["expires_at"]))
    if moment.tzinfo is None:
        raise ValueError("a moment without a time zone")
    return moment.timestamp()


def _access_rules(token: Document) -> Sequence[AccessRule] | None:
    rules = (token.get("application_credential") or {}).get("access_rules")
    if rules is None:
        return None
    return tuple(
        AccessRule(_text(rule["service"]), _text(rule["method"]), _text(rule["path"]))
        for rule in rules
    )


def _text(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise TypeError("expected text")
    return value
