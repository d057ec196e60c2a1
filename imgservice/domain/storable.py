"""Text that every database can hold: the rule for whatever is recorded of an image."""

from collections.abc import Sequence

from imgservice.domain.errors import Invalid
from imgservice.domain.names import IMAGE_FIELDS

LONGEST_NAME = 255
"""Characters in a name, an owner, a tag, the name of a property, or the id of a project."""


def check_storable(name: str, value: object) -> None:
    """Raise `Invalid` for a field or property of an image whose text cannot be stored.

    Glance's tables in MySQL hold no 4-byte UTF-8, and PostgreSQL holds no null characters. The
    values of properties have a limit of their own, see `ImageLimits`.
    """
    texts = _texts(value)
    for text in (name, *texts):
        # Nearly all text is ASCII, which is known without looking at its characters.
        if "\0" in text or (not text.isascii() and max(text) > "\uffff"):
            kind = "null" if "\0" in text else "4 byte unicode"
            raise Invalid(f"{_called(name)} can't contain {kind} characters.")
    if len(name) > LONGEST_NAME:
        raise Invalid(
            f"The property name {name[:40]!r}... is longer than {LONGEST_NAME} characters."
        )
    if name in IMAGE_FIELDS and max(map(len, texts), default=0) > LONGEST_NAME:
        raise Invalid(f"{_called(name)} can't be longer than {LONGEST_NAME} characters.")


def _texts(value: object) -> Sequence[str]:
    if isinstance(value, str):
        return (value,)
    if isinstance(value, (list, tuple)):
        return [text for text in value if isinstance(text, str)]
    return ()


def _called(name: str) -> str:
    return name.capitalize() if name in IMAGE_FIELDS else f"Property {name!a}"
