"""Types whose written form in the configuration file is richer than a bare number."""

import re
from typing import NewType

import attrs

Size = NewType("Size", int)
"""Bytes; written as a whole number or with a suffix, as in 10GiB."""

Duration = NewType("Duration", float)
"""Seconds."""

Urls = NewType("Urls", tuple[str, ...])
"""Written as one URL, or as a list of them."""


@attrs.frozen
class Secret:
    """A string that is not printed; in a URL only the password is hidden."""

    _value: str

    def reveal(self) -> str:
        return self._value

    def __repr__(self) -> str:
        if "://" in self._value:
            return re.sub(r"(://[^/@:]*):[^/]*@", r"\1:***@", self._value)
        return "***"
