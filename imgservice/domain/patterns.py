"""Regular expressions that operators write, searched for in what clients send.

Python's `re` goes back and tries again: some expressions keep it busy for hours with a text of a
hundred characters. It is used where that cannot happen, since it is what Glance uses; RE2, whose
time grows with the text only, is used for the rest.
"""

import re
from typing import Protocol, cast

_REPEAT = re.compile(r"[*+{]")
_MOST_OPTIONAL = 4
_END = re.compile(r"(?<!\\)((?:\\\\)*+)\\Z")


class Pattern(Protocol):
    def search(self, text: str, /) -> object:
        """Return something true where the expression is found."""


def compiled(text: str, *, short: bool) -> Pattern:
    """Return what searches for the expression; `ValueError` says why it cannot be used.

    `short`: what is searched is never longer than a name, so that its square is no danger.
    """
    try:
        pattern = re.compile(text)
    except re.error as error:
        raise ValueError(f"is not a regular expression: {error}") from None
    return pattern if _is_harmless(text, short) else _linear(text)


def _is_harmless(text: str, short: bool) -> bool:
    """Tell whether the time is at most the length, or the square of a short one.

    Each repeat of a single character, and looking from every place on, takes the length once more.
    More repeats are counted than there are: brackets may hold such characters.
    """
    if re.search(r"\)[*+{]", text) or text.count("?") > _MOST_OPTIONAL:
        return False
    is_anchored = text.startswith("^") and "|" not in text
    return len(_REPEAT.findall(text)) + (not is_anchored) <= (2 if short else 1)


def _linear(text: str) -> Pattern:
    import re2  # few files need it

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
