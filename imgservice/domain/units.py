"""Types of options that have a form of their own in the configuration file."""

import re
from typing import NewType

import attrs

Size = NewType("Size", int)
"""Bytes, written as a whole number or with a unit, as in 10GiB."""

Duration = NewType("Duration", float)
"""Seconds."""

Endpoints = NewType("Endpoints", tuple[str, ...])
"""Addresses to listen on: Twisted's endpoint strings, hosts with ports, or just ports."""

Urls = NewType("Urls", tuple[str, ...])
"""Written as one URL, or as a list of them."""


_PLACE = re.compile(r"(\[[0-9A-Fa-f:.%]*\]|[^/?:\[\]]*)(:[0-9]*)?([/?]|$)")
"""A host, perhaps with a port, at the beginning of a text."""
_SECRET_WORDS = ("pass", "secret", "token")
"""Parts of names of parameters whose values are not printed."""


@attrs.frozen
class Secret:
    """A string that is not printed; in a URL only the password is hidden."""

    _value: str

    def reveal(self) -> str:
        return self._value

    def __repr__(self) -> str:
        return masked(self._value) if "://" in self._value else "***"


def masked(url: str) -> str:
    """Return the URL for printing, without anything that might be a password.

    A password may contain characters that should have been escaped: it ends at the last @.
    """
    scheme, _, rest = url.partition("://")
    account, at, place = rest.rpartition("@")
    user, colon, _ = account.partition(":")
    if "?" in account or not (at or _PLACE.match(place)):
        return f"{scheme}://***"  # an @ in the parameters, or something that only looks like a port
    if "/" in user and scheme != "sqlite":
        user = "***"
    return f"{scheme}://{user}{':***' if colon else ''}{at}{_without_secrets(place)}"


def told(value: object) -> str:
    """Return a wrong value for a message, without the password of a URL."""
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    return repr(masked(value) if isinstance(value, str) and "://" in value else value)


def _without_secrets(place: str) -> str:
    before, mark, query = place.partition("?")
    shown = []
    for pair in query.split("&"):
        name = pair.partition("=")[0]
        if any(word in name.lower() for word in _SECRET_WORDS):
            shown.append(f"{name}=***")
            break  # the password may contain an &, so nothing after it is shown either
        shown.append(pair)
    return before + mark + "&".join(shown)
