"""Reads the configuration file; every mistake in it is reported with its YAML path."""

import difflib
import os
import re
import types
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

import attrs
import cattrs
import yaml
from cattrs.errors import AttributeValidationNote, ForbiddenExtraKeysError, IterableValidationNote
from cattrs.gen import make_dict_structure_fn, override

from imgservice.config.errors import ConfigError, OptionError, dotted
from imgservice.config.sections import Config
from imgservice.config.sections.limits import LimitsOptions, LocalLimitsOptions
from imgservice.config.sections.server import MOST_WORKERS, ServerOptions, Workers
from imgservice.config.sections.stores import StoreEntry
from imgservice.domain.rates import ByteRate, Rate
from imgservice.domain.units import Duration, Endpoints, Secret, Size, Urls, masked
from imgservice.store import registry
from imgservice.yaml_text import compose

T = TypeVar("T")


def load(path: Path | None) -> Config:
    """Read the file; None means every default. `ConfigError` names what is wrong and where."""
    if path is None:
        return Config()
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise ConfigError(f"{path}: cannot be read: {reason}") from None
    return parse(text, str(path))


def parse(text: str, name: str) -> Config:
    """Turn YAML into a `Config`; `name` is the file's, for messages."""
    try:
        root = compose(text, _Loader)
        document = yaml.load(text, _Loader)  # noqa: S506  _Loader is a SafeLoader
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigError(f"{name}:{line}: not valid YAML: {_problem(error)}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{name}: not valid YAML: {error}") from None
    if document is None:
        return Config()
    mistakes: list[tuple[list[str | int], str]] = []
    try:
        config = _converter.structure(document, Config)
    except Exception as error:
        mistakes = list(_mistakes(error, []))
    else:
        mistakes = list(_contradictions(config))
    if mistakes:
        found = sorted((_line(root, path), dotted(path), text) for path, text in mistakes)
        raise ConfigError("\n".join(f"{name}:{line}: {at}: {text}" for line, at, text in found))
    return config


def _problem(error: yaml.MarkedYAMLError) -> str:
    """Return what is wrong, without a value that could be a password."""
    problem = error.problem or ""
    for word, sign in (("alias", "*"), ("anchor", "&"), ("tag", "!")):
        if word in problem:
            return f"a value that begins with {sign} needs quotes"
    return problem


def located(path: Path | None, error: ConfigError) -> str:
    """Return the error's message, with file and line where an option of the file is at fault."""
    if path is None or not isinstance(error, OptionError):
        return str(error)
    root = compose(path.read_text(encoding="utf-8"), _Loader)
    return f"{path}:{_line(root, list(error.path))}: {error}"


class _Loader(yaml.SafeLoader):
    """YAML in which a key given twice is an error instead of a surprise."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key.value!r} is there twice", key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def _contradictions(config: Config) -> "list[tuple[list[str | int], str]]":
    """Find values that are right one by one and wrong together."""
    found: list[tuple[list[str | int], str]] = []
    if config.default_store not in config.stores:
        known = ", ".join(config.stores) or "none"
        found.append(
            (["default_store"], f"there is no store {config.default_store!r} (stores: {known})")
        )
    elif registry.driver(config.stores[config.default_store].type).read_only:
        found.append((["default_store"], f"the store {config.default_store!r} is read-only"))
    found += _wrong_limits(config.limits)
    if config.api.page_default > config.api.page_max:
        found.append((["api", "page_default"], "is more than api.page_max"))
    found += [(path, f"must be at least {least}") for path, least in _too_small(config)]
    for path, one in (
        (["limits", "uploads", "total"], config.limits.uploads.total),
        (["limits", "uploads", "project"], config.limits.uploads.project),
        (["server", "max_connections"], config.server.max_connections),
        (["server", "max_connections_per_address"], config.server.max_connections_per_address),
    ):
        if one is not None and one < 1:
            found.append(([*path], "must be at least 1, or null"))
    tls = config.server.tls
    if tls is not None and tls.client_auth == "optional" and tls.client_ca is None:
        found.append((["server", "tls", "client_auth"], "optional needs client_ca"))
    found += _wrong_server(config.server)
    return found


def _wrong_server(server: ServerOptions) -> "Iterator[tuple[list[str | int], str]]":
    if not server.listen:
        yield ["server", "listen"], "names no endpoint"
    for index, description in enumerate(server.listen):
        if description in server.listen[:index]:
            yield ["server", "listen", index], f"{description!r} is there twice"
    if server.umask is not None and not re.fullmatch("0?[0-7]{3}", server.umask):
        yield ["server", "umask"], f"expected an octal number such as 027, got {server.umask!r}"


def _wrong_limits(limits: LimitsOptions) -> "Iterator[tuple[list[str | int], str]]":
    """Find limits of projects that are below 0, and all but one of those that would be in force."""
    kinds = {
        "user_storage": limits.user_storage > 0,
        "keystone": limits.keystone.enabled,
        "projects": limits.projects != LocalLimitsOptions(),
    }
    first, *others = [name for name, is_there in kinds.items() if is_there] or [""]
    for other in others:
        yield ["limits", first], f"limits.{other} is there too: give one of them"
    for where, one in (
        (["default"], limits.projects.default),
        *((["overrides", project], one) for project, one in limits.projects.overrides.items()),
    ):
        for name in ("image_count_total", "image_count_uploading"):
            if (getattr(one, name) or 0) < 0:
                yield ["limits", "projects", *where, name], "must be at least 0, or null"


_LEAST: Mapping[str, Mapping[str, float]] = {
    "server": {
        "backlog": 1,
        "max_header_line": 1024,
        "max_headers_size": 1024,
        "max_headers": 10,
        "min_rate": 0,
        "min_rate_time": 1,
    },
    "database": {"threads": 1, "pool": 1},
    "api": {
        "page_default": 1,
        "page_max": 1,
        "page_bytes": 1 << 16,
        "max_body": 1024,
        "max_request_id": 1,
    },
    "transfer": {"window": 1 << 20, "memory": 1 << 20, "threads": 1},
    "healthcheck": {"interval": 0.1},
}


def _too_small(config: Config) -> "Iterator[tuple[list[str | int], float]]":
    for section, options in _LEAST.items():
        for name, least in options.items():
            if getattr(getattr(config, section), name) < least:
                yield [section, name], least


# -- values ---------------------------------------------------------------------------------------

_KEY = re.compile(r"[A-Za-z0-9_.-]*")
_SIZE = re.compile(r"(\d+)\s*(?:([KMGTP]i?)?B?)", re.IGNORECASE)
_POWERS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4, "P": 5}


def parse_size(value: object, _type: object = None) -> Size:
    """Read 10, "10", 10KB (1000), 10KiB (1024)."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return Size(value)
    matched = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
    if matched is None:
        raise ValueError(f"expected a size such as 10GiB, got {_told(value)}")
    number, unit = matched.groups(default="")
    base = 1024 if unit[1:].lower() == "i" else 1000
    return Size(int(number) * base ** _POWERS[unit[:1].upper()])


def _told(value: object) -> str:
    """Write a value that is wrong, for a message; no password goes with it, as in a URL."""
    if isinstance(value, dict):
        return "keys and values"
    if isinstance(value, list):
        return "a list"
    return repr(masked(value) if isinstance(value, str) and "://" in value else value)


def _kind(value: object) -> str:
    """Say what a value is, where it may be anything, a password as well."""
    return "text" if isinstance(value, str) else _told(value)


def _duration(value: object, _type: object) -> Duration:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e9:
        raise ValueError(f"expected a number of seconds, got {_told(value)}")
    return Duration(value)


def _rate(value: object, type_: type[Rate]) -> Rate:
    """Read `{per_second: …, burst: …}`, of numbers or of sizes."""
    if not isinstance(value, dict) or value.keys() != {"per_second", "burst"}:
        raise ValueError(f"expected {{per_second: …, burst: …}} or null, got {_told(value)}")
    read = parse_size if type_ is ByteRate else _number
    rate = type_(read(value["per_second"]), read(value["burst"]))
    if rate.per_second <= 0 or rate.burst < 1:
        raise ValueError(f"expected per_second above 0 and burst of at least 1, got {value!r}")
    return rate


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e9:
        raise ValueError(f"expected a number, got {_told(value)}")
    return value


def _urls(value: object, _type: object) -> Urls:
    urls = [value] if isinstance(value, str) else value
    if not isinstance(urls, list) or not all(isinstance(url, str) for url in urls):
        raise ValueError(f"expected a URL or a list of URLs, got {_told(value)}")
    return Urls(tuple(urls))


def _endpoints(value: object, _type: object) -> Endpoints:
    if not isinstance(value, list):
        raise ValueError(f"expected a list, got {_told(value)}")
    texts = (str(one) if type(one) is int else one for one in value)
    return Endpoints(tuple(_element(text, str, index) for index, text in enumerate(texts)))


def _string(value: object, _type: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"expected a string, got {_told(value)}")
    return value


def _secret(value: object, _type: object) -> Secret:
    """Take a string, or read it from where `{file: …}` or `{env: …}` says."""
    if isinstance(value, str):
        return Secret(value)
    if isinstance(value, dict) and len(value) == 1:
        [(kind, place)] = value.items()
        if kind == "file" and isinstance(place, str):
            return Secret(_secret_file(place))
        if kind == "env" and isinstance(place, str):
            return Secret(_secret_variable(place))
    raise ValueError("expected a string, {file: PATH} or {env: NAME}")


def _secret_file(place: str) -> str:
    try:
        return Path(place).read_text(encoding="utf-8").rstrip("\n")
    except OSError as error:
        raise ValueError(f"{place}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{place}: cannot be read: not UTF-8 text") from None


def _secret_variable(name: str) -> str:
    value = os.environ.get(name)
    if value is None:
        raise ValueError(f"the environment variable {name} is not set")
    return value


def _integer(value: object, _type: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"expected a whole number, got {_told(value)}")
    return value


def _workers(value: object, type_: object) -> object:
    is_number = isinstance(value, int) and not isinstance(value, bool)
    if value != "auto" and not (is_number and value in range(MOST_WORKERS + 1)):
        raise ValueError(f"expected a number from 0 to {MOST_WORKERS}, or auto, got {_told(value)}")
    return value


def _boolean(value: object, _type: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"expected true or false, got {_told(value)}")
    return value


def _literal(value: object, type_: Any) -> object:
    allowed = get_args(type_)
    if isinstance(value, float) and str(value) in allowed:
        return str(value)  # a version that was written without quotes
    if value not in allowed:
        raise ValueError(f"expected one of {', '.join(map(str, allowed))}, got {_told(value)}")
    return value


def _sequence(value: object, type_: Any) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise ValueError(f"expected a list, got {_told(value)}")
    return tuple(_element(item, get_args(type_)[0], index) for index, item in enumerate(value))


def _element(item: object, type_: Any, index: int) -> Any:
    try:
        return _converter.structure(item, type_)
    except Exception as error:
        error.__notes__ = [IterableValidationNote(f"in element {index}", index, type_)]
        raise cattrs.IterableValidationError("", [error], tuple) from None


def _optional(value: object, type_: Any) -> Any:
    if value is None:
        return None
    [inner] = [t for t in get_args(type_) if t is not types.NoneType]
    return _converter.structure(value, inner)


def _stores(value: object, _type: object) -> Mapping[str, StoreEntry]:
    if not isinstance(value, dict) or not value:
        raise ValueError("expected names of stores, each with its type and options")
    entries: dict[str, StoreEntry] = {}
    mistakes: list[Exception] = []
    for name, options in value.items():
        try:
            entries[_store_name(name)] = _store(options)
        except Exception as error:
            error.__notes__ = [IterableValidationNote(f"in store {name}", name, object)]
            mistakes.append(error)
    if mistakes:
        raise cattrs.IterableValidationError("", mistakes, dict)
    return entries


def _store_name(name: object) -> str:
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9_.-]+", name):
        raise ValueError(f"a store's name has letters, digits, '_', '.' and '-'; got {name!r}")
    if name.startswith("os_glance_"):
        raise ValueError(f"names that begin with os_glance_ are reserved; got {name!r}")
    return name


def _store(options: object) -> StoreEntry:
    if not isinstance(options, dict) or not isinstance(options.get("type"), str):
        raise ValueError("a store needs a type, as in {type: file, path: DIRECTORY}")
    driver = registry.driver(options["type"])
    rest = {key: value for key, value in options.items() if key != "type"}
    return StoreEntry(options["type"], _converter.structure(rest, driver.config))


# -- the converter --------------------------------------------------------------------------------


def _section_hook(class_: type[T]) -> Callable[[Any, Any], T]:
    """Structure an attrs class from a mapping, refusing unknown keys; `from_` is written `from`."""
    renamed = {
        field.name: override(rename=field.name.rstrip("_"))
        for field in attrs.fields(class_)  # type: ignore[arg-type]
        if field.name.endswith("_")
    }
    structure = make_dict_structure_fn(
        class_,
        _converter,
        _cattrs_forbid_extra_keys=True,
        **renamed,  # type: ignore[arg-type]
    )

    def hook(value: object, type_: Any) -> T:
        if value is None:
            value = {}
        if not isinstance(value, dict):
            raise ValueError(f"expected keys and values, got {_kind(value)}")
        return structure(value, type_)

    return hook


def _origin_is(*origins: object) -> Callable[[Any], bool]:
    return lambda type_: get_origin(type_) in origins


def _make_converter() -> cattrs.Converter:
    converter = cattrs.Converter(forbid_extra_keys=True, detailed_validation=True)
    # The hook registered last is asked first.
    converter.register_structure_hook_factory(attrs.has, _section_hook)
    for type_, hook in (
        (int, _integer),
        (bool, _boolean),
        (str, _string),
        (Secret, _secret),
    ):
        converter.register_structure_hook(type_, hook)
    converter.register_structure_hook_func(_origin_is(Literal), _literal)
    converter.register_structure_hook_func(_origin_is(tuple), _sequence)
    converter.register_structure_hook_func(_origin_is(Union, types.UnionType), _optional)
    converter.register_structure_hook_func(lambda t: t == Workers, _workers)
    converter.register_structure_hook_func(lambda t: t is Size, parse_size)
    converter.register_structure_hook_func(lambda t: t is Duration, _duration)
    converter.register_structure_hook_func(lambda t: t is Urls, _urls)
    converter.register_structure_hook_func(lambda t: t is Endpoints, _endpoints)
    converter.register_structure_hook_func(lambda t: t in (Rate, ByteRate), _rate)
    converter.register_structure_hook_func(lambda t: t == Mapping[str, StoreEntry], _stores)
    return converter


_converter = _make_converter()


# -- where a mistake is ---------------------------------------------------------------------------


def _mistakes(error: BaseException, path: list[str | int]) -> "list[tuple[list[str | int], str]]":
    """Flatten cattrs' tree of errors to (path, message) pairs."""
    path = path + _step(error)
    if isinstance(error, BaseExceptionGroup):
        return [pair for inner in error.exceptions for pair in _mistakes(inner, path)]
    if isinstance(error, ForbiddenExtraKeysError):
        return [
            ([*path, _key(key)], _unknown_key(key, error.cl))
            for key in sorted(map(str, error.extra_fields))
        ]
    if isinstance(error, KeyError):
        return [(path, "is required")]  # the note has already told which
    return [(path, str(error))]


def _key(key: str) -> str:
    """Return the key up to where it may be a value, as in `password:…` without a blank."""
    found = _KEY.match(key)
    return key if found is None or found[0] == key else f"{found[0]}…"


def _step(error: BaseException) -> list[str | int]:
    for note in getattr(error, "__notes__", ()):
        if isinstance(note, AttributeValidationNote):
            return [note.name.rstrip("_")]
        if isinstance(note, IterableValidationNote):
            return [note.index]
    return []


def _unknown_key(key: str, class_: Any) -> str:
    known = [field.name.rstrip("_") for field in attrs.fields(class_)]
    close = difflib.get_close_matches(key, known, 1)
    return "unknown key" + (
        f"; did you mean {close[0]}?" if close else f" (known: {', '.join(known)})"
    )


def _line(node: yaml.Node | None, path: list[str | int]) -> int:
    """Return the line, from 1, of the deepest part of the path that is in the file."""
    line = 1
    for step in path:
        if isinstance(node, yaml.MappingNode):
            found = next((pair for pair in node.value if pair[0].value == step), None)
            if found is None:
                break
            line, node = found[0].start_mark.line + 1, found[1]
        elif isinstance(node, yaml.SequenceNode) and step in range(len(node.value)):
            node = node.value[step]
            line = node.start_mark.line + 1
        else:
            break
    return line
