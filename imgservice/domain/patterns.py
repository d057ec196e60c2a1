"""Regular expressions that operators write, applied to text from clients.

Python's `re` backtracks: some expressions take hours for a text of a hundred characters. It is used
where that cannot happen, since Glance uses it; for all other expressions RE2 is used, whose time is
linear in the length of the text.
"""

import re
from typing import Protocol, cast

_REPEAT = re.compile(r"[*+{]")
_MOST_OPTIONAL = 4
_END = re.compile(r"(?<!\\)((?:\\\\)*+)\\Z")


class Pattern(Protocol):
    def search(self, text: str, /) -> object:
        """Return something true if the expression matches anywhere."""


def compiled(text: str, *, short: bool) -> Pattern:
    """Compile the expression; `ValueError` if it cannot be used.

    `short`: texts are never longer than a name, so that quadratic time does no harm.
    """
    try:
        pattern = re.compile(text)
    except re.error as error:
        raise ValueError(f"is not a regular expression: {error}") from None
    return pattern if _is_harmless(text, short) else _linear(text)


def _is_harmless(text: str, short: bool) -> bool:
    """Tell whether a search takes linear time, or quadratic time for a short text.

    Each repeat of a single character multiplies the time by the length, and so does the search from
    every position. Characters in brackets are counted as repeats, too, which is on the safe side.
    """
    if re.search(r"\)[*+{]", text) or text.count("?") > _MOST_OPTIONAL:
        return False
    is_anchored = text.startswith("^") and "|" not in text
    return len(_REPEAT.findall(text)) + (not is_anchored) <= (2 if short else 1)


def _linear(text: str) -> Pattern:
    import re2  # few configurations need it

    options = re2.Options()
    options.log_errors = False
    try:
        found = re2.compile(_END.sub(r"\1\\z", text), options)
    except re2.error as error:
        raise ValueError(
            "repeats so much that it could take hours; RE2, which is used for such regular"
            f" expressions, cannot read it: {_said(error)}"
        ) from None
    return cast(Pattern, found)


def _said(error: Exception) -> str:
    reason = error.args[0] if error.args else ""
    return reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)
