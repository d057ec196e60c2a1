"""Types whose written form in the configuration file is richer than a bare number."""

import re
from typing import NewType

import attrs

Size = NewType("Size", int)
"""Bytes; written as a whole number or with a suffix, as in 10GiB."""

Duration = NewType("Duration", float)
"""Seconds."""

Endpoints = NewType("Endpoints", tuple[str, ...])
"""Where to listen: Twisted's endpoint strings, hosts with ports, or mere ports."""

Urls = NewType("Urls", tuple[str, ...])
"""Written as one URL, or as a list of them."""


_PLACE = re.compile(r"(\[[0-9A-Fa-f:.%]*\]|[^/?:\[\]]*)(:[0-9]*)?([/?]|$)")
"""A host, and perhaps a port, before whatever follows."""
_SECRET_WORDS = ("pass", "secret", "token")
"""In the names of parameters whose values are not printed."""


@attrs.frozen
class Secret:
    """A string that is not printed; in a URL only the password is hidden."""

    _value: str

    def reveal(self) -> str:
        return self._value

    def __repr__(self) -> str:
        return masked(self._value) if "://" in self._value else "***"


def masked(url: str) -> str:
    """Return the URL as it may be printed; what might be a password, however it is written, is not.

    A password may hold any character that should have been escaped: it ends at the last @ there is.
    """
    scheme, _, rest = url.partition("://")
    account, at, place = rest.rpartition("@")
    user, colon, _ = account.partition(":")
    if "?" in account or not (at or _PLACE.match(place)):
        return f"{scheme}://***"  # an @ among the parameters, or what looks like a port is none
    if "/" in user and scheme != "sqlite":
        user = "***"
    return f"{scheme}://{user}{':***' if colon else ''}{at}{_without_secrets(place)}"


def told(value: object) -> str:
    """Write a wrong value for a message, without the password that a URL may have."""
    if isinstance(value, dict):
        return "keys and values"
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
            break  # it may have an & of its own: what follows is not shown either
        shown.append(pair)
    return before + mark + "&".join(shown)
