"""Makes typed values of the document, and finds every mistake in it."""

import difflib
import re
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Literal, TypeVar, Union, get_args, get_origin

import attrs
import cattrs
from cattrs.errors import AttributeValidationNote, ForbiddenExtraKeysError, IterableValidationNote
from cattrs.gen import make_dict_structure_fn, override

from imgservice.config import values
from imgservice.config.errors import OptionError
from imgservice.config.sections import Config
from imgservice.config.sections.server import Workers
from imgservice.config.sections.stores import StoreEntry
from imgservice.domain.options import Checked, Mistake, declaration, key
from imgservice.domain.rates import ByteRate, Rate
from imgservice.domain.units import Duration, Endpoints, Secret, Size, Urls, told
from imgservice.store import registry

T = TypeVar("T")
Hook = Callable[[object, object], object]
"""Makes a value of the given type out of what YAML has."""

_KEY = re.compile(r"[A-Za-z0-9_.-]*")


class Mistakes(Exception):
    """The document has mistakes; `found` has the place of each in the file."""

    def __init__(self, found: Sequence[Mistake]) -> None:
        super().__init__()
        self.found = found


def structure(document: object) -> Config:
    """Return the configuration, or raise `Mistakes` with everything that is wrong."""
    try:
        return _converter.structure(document, Config)
    except Exception as error:
        raise Mistakes([*_mistakes(error, [])]) from None


# -- sections -------------------------------------------------------------------------------------


def _section_hook(class_: "type[attrs.AttrsInstance]") -> Hook:
    """Read a section: known keys only, each value by its declaration, then all of them together."""
    read: Callable[[Mapping[str, object], object], object] = make_dict_structure_fn(
        class_,
        _converter,
        _cattrs_forbid_extra_keys=True,
        **{  # type: ignore[arg-type]  # names of fields cannot be those of its parameters
            field.name: override(rename=key(field), struct_hook=_value_hook(field))
            for field in attrs.fields(class_)
        },
    )

    def hook(value: object, type_: object) -> object:
        if value is None:
            value = {}
        if not isinstance(value, dict):
            kind = "text" if isinstance(value, str) else told(value)  # it could be a password
            raise ValueError(f"expected a mapping, got {kind}")
        found = read(value, type_)
        if isinstance(found, Checked):
            _raise_any(found.contradictions())
        return found

    return hook


def _value_hook(field: "attrs.Attribute[object]") -> Hook:
    type_, declared = field.type or object, declaration(field)
    is_nullable = types.NoneType in get_args(type_)

    def hook(value: object, _type: object) -> object:
        found = _converter.structure(value, type_)
        _raise_any(declared.mistakes(found, is_nullable))
        return found

    return hook


def _raise_any(mistakes: Iterable[Mistake]) -> None:
    errors = [OptionError(path, reason) for path, reason in mistakes]
    if errors:
        raise ExceptionGroup("", errors)


def _stores(value: object, _type: object) -> Mapping[str, StoreEntry]:
    if not isinstance(value, dict) or not value:
        raise ValueError("expected a mapping of store names to types and options")
    entries: dict[str, StoreEntry] = {}
    errors: list[Exception] = []
    for name, options in value.items():
        try:
            entries[values.store_name(name)] = _store(options)
        except Exception as error:
            error.__notes__ = [IterableValidationNote(f"in store {name}", name, object)]
            errors.append(error)
    if errors:
        raise cattrs.IterableValidationError("", errors, dict)
    return entries


def _store(options: object) -> StoreEntry:
    if not isinstance(options, dict) or not isinstance(options.get("type"), str):
        raise ValueError("a store needs a type, as in {type: file, path: DIRECTORY}")
    driver = registry.driver(options["type"])
    rest = {key: value for key, value in options.items() if key != "type"}
    return StoreEntry(options["type"], _converter.structure(rest, driver.config))


# -- lists and alternatives -----------------------------------------------------------------------


def _endpoints(value: object, _type: object) -> Endpoints:
    if not isinstance(value, list):
        raise ValueError(f"expected a list, got {told(value)}")
    texts = (str(one) if type(one) is int else one for one in value)
    return Endpoints(tuple(_element(text, str, index) for index, text in enumerate(texts)))


def _sequence(value: object, type_: object) -> tuple[object, ...]:
    if not isinstance(value, list):
        raise ValueError(f"expected a list, got {told(value)}")
    return tuple(_element(item, get_args(type_)[0], index) for index, item in enumerate(value))


def _element(item: object, type_: type[T], index: int) -> T:
    try:
        return _converter.structure(item, type_)
    except Exception as error:
        error.__notes__ = [IterableValidationNote(f"in element {index}", index, type_)]
        raise cattrs.IterableValidationError("", [error], tuple) from None


def _optional(value: object, type_: object) -> object:
    if value is None:
        return None
    [inner] = [t for t in get_args(type_) if t is not types.NoneType]
    found: object = _converter.structure(value, inner)
    return found


# -- the converter --------------------------------------------------------------------------------


def _is(*known: object) -> Callable[[object], bool]:
    return lambda type_: type_ in known


def _origin_is(*origins: object) -> Callable[[object], bool]:
    return lambda type_: get_origin(type_) in origins


_BY_TYPE: Mapping[type, Hook] = {
    int: values.integer,
    bool: values.boolean,
    str: values.string,
    Secret: values.secret,
}
_BY_SHAPE: Sequence[tuple[Callable[[object], bool], Hook]] = (
    (_origin_is(Literal), values.literal),
    (_origin_is(tuple), _sequence),
    (_origin_is(Union, types.UnionType), _optional),
    (_is(Workers), values.workers),
    (_is(Size), values.parse_size),
    (_is(Duration), values.duration),
    (_is(Urls), values.urls),
    (_is(Endpoints), _endpoints),
    (_is(Rate, ByteRate), values.rate),
    (_is(Mapping[str, StoreEntry]), _stores),
)


def _make_converter() -> cattrs.Converter:
    converter = cattrs.Converter(forbid_extra_keys=True, detailed_validation=True)
    # The hook registered last is asked first.
    converter.register_structure_hook_factory(attrs.has, _section_hook)
    for type_, read in _BY_TYPE.items():
        converter.register_structure_hook(type_, read)
    for is_meant, read in _BY_SHAPE:
        converter.register_structure_hook_func(is_meant, read)
    return converter


_converter = _make_converter()


# -- mistakes -------------------------------------------------------------------------------------


def _mistakes(error: BaseException, path: Sequence[str | int]) -> Iterator[Mistake]:
    """Flatten cattrs' tree of errors."""
    path = [*path, *_step(error)]
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _mistakes(inner, path)
    elif isinstance(error, ForbiddenExtraKeysError):
        for name in sorted(map(str, error.extra_fields)):
            yield [*path, _shown_key(name)], _unknown_key(name, error.cl)
    elif isinstance(error, OptionError):
        yield [*path, *error.path], error.reason
    elif isinstance(error, KeyError):
        yield path, "is required"  # the note has already told which
    else:
        yield path, str(error)


def _shown_key(name: str) -> str:
    """Return the key up to where it may be a value, as in `password:…` without a blank."""
    found = _KEY.match(name)
    return name if found is None or found[0] == name else f"{found[0]}…"


def _step(error: BaseException) -> Sequence[str | int]:
    for note in getattr(error, "__notes__", ()):
        if isinstance(note, AttributeValidationNote):
            return [note.name.rstrip("_")]
        if isinstance(note, IterableValidationNote):
            return [note.index]
    return []


def _unknown_key(name: str, class_: "type[attrs.AttrsInstance]") -> str:
    known = [key(field) for field in attrs.fields(class_)]
    close = difflib.get_close_matches(name, known, 1)
    return "unknown key" + (
        f"; did you mean {close[0]}?" if close else f" (known: {', '.join(known)})"
    )
