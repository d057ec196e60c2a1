"""Declares options: type, default, constraints and description, all in one place.

The loader, the sample file and the reference page read these declarations. A choice between words
is declared by its type, as in `Literal["text", "json"]`.

These are not the validators of attrs: those stop at the first mistake, name no place in the file,
and cannot be put into words for the reference page.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeVar, runtime_checkable

import attrs

from imgservice.domain.errors import Invalid
from imgservice.domain.units import told

T = TypeVar("T")

KeyPath = Sequence[str | int]
"""The keys and indices that lead to a value."""
Mistake = tuple[KeyPath, str]
"""A place, and what is wrong there."""


@attrs.frozen
class Bound:
    """A limit of a number."""

    words: str
    """As in `at least`."""
    limit: float
    allows: Callable[[float, float], bool]


@attrs.frozen
class Form:
    """What a string looks like; `read` raises `ValueError` or `Invalid` for any other one."""

    name: str
    """With an article and perhaps an example, as in `a URL such as http://node1:9292`."""
    read: Callable[[str], object]

    def complaint(self, text: object) -> str | None:
        """Return what is wrong with the string, or None."""
        if not isinstance(text, str):
            return None
        try:
            self.read(text)
        except (ValueError, Invalid):
            return f"expected {self.name}, got {told(text)}"
        return None


@attrs.frozen
class Declaration:
    """What an option says of itself, beside its type and its default."""

    doc: str
    bounds: Sequence[Bound] = ()
    """Of the value, if it is a number."""
    form: Form | None = None
    """Of the value, if it is a string; of a list, each element must have it."""

    def mistakes(self, value: object, is_nullable: bool) -> Iterator[Mistake]:
        """Yield what is wrong with the value, which has the right type."""
        or_null = ", or null" if is_nullable else ""
        if isinstance(value, int | float):
            for bound in self.bounds:
                if not bound.allows(value, bound.limit):
                    yield [], f"must be {bound.words} {bound.limit}{or_null}"
        if self.form is None:
            return
        for path, text in _strings(value):
            if complaint := self.form.complaint(text):
                yield path, complaint


def _strings(value: object) -> Iterator[tuple[KeyPath, object]]:
    if not isinstance(value, tuple):
        yield [], value
        return
    for index, one in enumerate(value):
        yield [index], one


@runtime_checkable
class Checked(Protocol):
    """A section with options that may be right one by one, and wrong together."""

    def contradictions(self) -> Iterator[Mistake]:
        """Yield each mistake, with its place in this section."""


def option(
    default: T,
    doc: str,
    *,
    ge: float | None = None,
    gt: float | None = None,
    le: float | None = None,
    form: Form | None = None,
) -> T:
    """Declare a key that may be left out. Constraints do not apply to null."""
    found: T = attrs.field(default=default, metadata=_metadata(doc, ge=ge, gt=gt, le=le, form=form))
    return found


def required(doc: str) -> Any:
    """Declare a key that has no default."""
    return attrs.field(metadata=_metadata(doc))


def section(make: Callable[[], T], doc: str) -> T:
    """Declare a key with keys of its own; `make` returns its default."""
    found: T = attrs.field(factory=make, metadata=_metadata(doc))
    return found


def declaration(field: "attrs.Attribute[object]") -> Declaration:
    """Return what was declared of the field: nothing, if a driver uses a plain field of attrs."""
    declared: Declaration = field.metadata.get("option", Declaration(""))
    return declared


def key(field: "attrs.Attribute[object]") -> str:
    """Return the name in the file: `from_` is written `from`."""
    return field.name.rstrip("_")


_BOUNDS: Mapping[str, tuple[str, Callable[[float, float], bool]]] = {
    "ge": ("at least", lambda value, limit: value >= limit),
    "gt": ("more than", lambda value, limit: value > limit),
    "le": ("at most", lambda value, limit: value <= limit),
}


def _metadata(
    doc: str, form: Form | None = None, **limits: float | None
) -> Mapping[str, Declaration]:
    bounds = [
        Bound(words, limit, allows)
        for name, (words, allows) in _BOUNDS.items()
        if (limit := limits.get(name)) is not None
    ]
    return {"option": Declaration(doc, bounds, form)}
