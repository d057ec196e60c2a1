"""Reads what Keystone says of a token, and takes nothing for granted."""

from collections.abc import Sequence

import attrs

from imgservice.auth.keystone.access_rules import AccessRule
from imgservice.domain.context import Context
from imgservice.keystone.documents import Document, careful, expiry, text, token_of


@attrs.frozen
class Identity:
    """The user of a token, and until when it is valid."""

    context: Context
    expires: float
    """Seconds since 1970."""
    access_rules: Sequence[AccessRule] | None = None


def read_identity(document: Document) -> Identity | None:
    """Return the user of the token; None if we cannot tell whether the caller may use it.

    `KeystoneError` unless the document is Keystone's.
    """
    return careful(lambda: _identity(token_of(document)))


def _identity(token: Document) -> Identity | None:
    if token.get("bind"):  # to something, such as a Kerberos ticket, that we do not see
        return None
    user, project, system = token["user"], token.get("project"), token.get("system")
    context = Context(
        user=text(user["id"]),
        project=text(project["id"]) if project else None,
        roles=frozenset(text(role["name"]).lower() for role in token.get("roles") or ()),
        user_domain=text(user["domain"]["id"]),
        project_domain=text(project["domain"]["id"]) if project else None,
        system_scope="all" if system and system.get("all") is True else None,
        domain=text(token["domain"]["id"]) if token.get("domain") else None,
    )
    return Identity(context, expiry(token), _access_rules(token))


def _access_rules(token: Document) -> Sequence[AccessRule] | None:
    rules = (token.get("application_credential") or {}).get("access_rules")
    if rules is None:
        return None
    return tuple(
        AccessRule(text(rule["service"]), text(rule["method"]), text(rule["path"]))
        for rule in rules
    )
