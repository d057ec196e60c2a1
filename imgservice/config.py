"""The configuration file as frozen values; every mistake in it is reported with its YAML path."""

import difflib
import os
import re
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

import attrs
import cattrs
import yaml
from cattrs.errors import AttributeValidationNote, ForbiddenExtraKeysError, IterableValidationNote
from cattrs.gen import make_dict_structure_fn, override

from imgservice.domain.units import Duration, Secret, Size
from imgservice.store import registry
from imgservice.store.file import FileConfig

T = TypeVar("T")


class ConfigError(Exception):
    """The configuration cannot be used; the message has one line for every mistake."""


class OptionError(ConfigError):
    """An option whose value, though of the right type, cannot be used; `path` is its place."""

    def __init__(self, path: Sequence[str | int], message: str) -> None:
        super().__init__(f"{_dotted(list(path))}: {message}")
        self.path = tuple(path)


def option(default: Any, doc: str) -> Any:
    """Declare a key with its default and the sentence that the sample file says about it."""
    if callable(default):
        return attrs.field(factory=default, metadata={"doc": doc})
    return attrs.field(default=default, metadata={"doc": doc})


def required(doc: str) -> Any:
    """Declare a key that has no default."""
    return attrs.field(metadata={"doc": doc})


@attrs.frozen(kw_only=True)
class Tls:
    certificate: str = required("PEM file: the certificate, then its intermediates.")
    key: str = required("PEM file with the private key.")


@attrs.frozen(kw_only=True)
class Server:
    listen: tuple[str, ...] = option(
        ("tcp:9292:interface=127.0.0.1",), "Twisted endpoint strings to listen on."
    )
    tls: Tls | None = option(None, "{certificate: FILE, key: FILE} turns TLS on.")
    public_url: str | None = option(
        None, "How clients reach us, for links in answers; null: as they asked."
    )
    trusted_proxies: tuple[str, ...] = option(
        (), "Addresses or networks whose Forwarded and X-Forwarded-* headers are believed."
    )
    backlog: int = option(4096, "Connections that may wait to be accepted.")
    tcp_keepidle: Duration = option(
        Duration(600), "Idle time before TCP probes a client; 0: never."
    )
    max_header_line: int = option(16384, "Longest request line or header line, in bytes.")
    max_headers_size: int = option(65536, "Longest request line and headers together, in bytes.")
    max_headers: int = option(200, "Most header fields in a request.")
    idle_timeout: Duration = option(
        Duration(900), "A client that neither sends nor reads for so long is disconnected."
    )
    header_timeout: Duration = option(
        Duration(60), "A request whose headers take longer than this is given up."
    )
    shutdown_grace: Duration = option(
        Duration(60), "How long running requests may go on after a stop was asked for."
    )


@attrs.frozen(kw_only=True)
class Cors:
    allowed_origins: tuple[str, ...] = option(
        (), 'Origins whose pages may call the API from a browser; "*" is all; none: no CORS.'
    )
    allow_credentials: bool = option(True, "Whether such a page may send credentials.")
    max_age: Duration = option(Duration(3600), "How long a browser may remember the answer.")


@attrs.frozen(kw_only=True)
class NoAuth:
    user: str = option("admin", "Everybody is this user.")
    project: str = option("admin", "... of this project, which then owns what they create.")
    roles: tuple[str, ...] = option(("admin", "member", "reader"), "... with these roles.")
    anywhere: bool = option(
        False, "Allow this mode on addresses other than loopback: anybody may then do anything."
    )


@attrs.frozen(kw_only=True)
class TrustedHeaders:
    from_: tuple[str, ...] = option(
        ("127.0.0.1", "::1"), "Addresses or networks of the proxy that has authenticated the user."
    )


@attrs.frozen(kw_only=True)
class Auth:
    mode: Literal["none", "trusted_headers"] = option(
        "none", "none: no questions asked; trusted_headers: a proxy in front says who it is."
    )
    none: NoAuth = option(NoAuth, "For the mode none.")
    trusted_headers: TrustedHeaders = option(TrustedHeaders, "For the mode trusted_headers.")
    anonymous_read: bool = option(
        False, "Whether one without an identity may look at public images."
    )


@attrs.frozen(kw_only=True)
class Database:
    url: Secret = option(
        Secret("sqlite:///var/imgservice.db"),
        "SQLAlchemy URL of the database; like every secret also {file: PATH} or {env: NAME}.",
    )
    threads: int = option(2, "Threads, and so connections, that read at the same time.")


@attrs.frozen
class StoreEntry:
    """One of the stores: its type, and the options that its driver defines."""

    type: str
    options: registry.StoreConfig


@attrs.frozen(kw_only=True)
class Api:
    page_default: int = option(25, "Images in a list when the client does not say.")
    page_max: int = option(1000, "Most images in a list, whatever the client says.")
    max_version: str | None = option(
        None, 'Newest API version to announce, as "2.9": the oldest node behind the same address.'
    )
    max_body: Size = option(Size(1 << 20), "Longest JSON document that is read.")
    max_request_id: int = option(64, "Longest request id taken from a client.")
    schema_file: str | None = option(
        None, "JSON file that describes custom properties which images may, or must, have."
    )


@attrs.frozen(kw_only=True)
class Locations:
    show: bool = option(
        False, "Whether images show the URLs of their data, which tells a lot about the stores."
    )
    direct_url: bool = option(False, "Whether they show the one that is read first.")
    secure_hash: bool = option(
        True, "Whether data that others have put at its place is read, checked and hashed."
    )


@attrs.frozen(kw_only=True)
class UrlFilter:
    allowed_schemes: tuple[str, ...] = option(
        ("http", "https"), "If not empty, only these; else all but the disallowed ones."
    )
    disallowed_schemes: tuple[str, ...] = option((), "Schemes that are refused.")
    allowed_hosts: tuple[str, ...] = option((), "If not empty, only these hosts.")
    disallowed_hosts: tuple[str, ...] = option((), "Hosts that are refused.")
    allowed_ports: tuple[int, ...] = option((80, 443), "If not empty, only these ports.")
    disallowed_ports: tuple[int, ...] = option((), "Ports that are refused.")
    private: bool = option(
        True, "Whether private networks (RFC 1918, shared, and unique local IPv6) may be reached."
    )
    cidrs: tuple[str, ...] = option(
        (),
        "Networks that may be reached in any case. This host, link-local addresses and the metadata"
        " services of clouds are refused unless they are listed here.",
    )


@attrs.frozen(kw_only=True)
class Import:
    filter: UrlFilter = option(
        UrlFilter, "Which URLs that users name we may fetch; redirects are judged likewise."
    )


@attrs.frozen(kw_only=True)
class Limits:
    image_size: Size = option(Size(1 << 40), "Most bytes in an image.")
    properties: int = option(128, "Most custom properties of an image; -1: no limit.")
    tags: int = option(128, "Most tags of an image; -1: no limit.")
    members: int = option(128, "Most projects an image is shared with; -1: no limit.")
    locations: int = option(10, "Most locations of an image; -1: no limit.")


@attrs.frozen(kw_only=True)
class Formats:
    disk: tuple[str, ...] = option(
        ("ami", "ari", "aki", "vhd", "vhdx", "vmdk", "raw", "qcow2", "vdi", "iso", "ploop"),
        "Disk formats that may be declared.",
    )
    container: tuple[str, ...] = option(
        ("ami", "ari", "aki", "bare", "ovf", "ova", "docker", "compressed"),
        "Container formats that may be declared.",
    )
    require_match: bool = option(
        True, "Refuse data whose format is not the declared one, or is not safe to use."
    )
    vmdk_types: tuple[str, ...] = option(
        ("streamOptimized", "monolithicSparse"), "VMDK subformats that are accepted."
    )
    gpt_safety_checks_nonfatal: tuple[str, ...] = option(
        (), "Checks of a GPT disk's MBR whose failure is only logged."
    )


@attrs.frozen(kw_only=True)
class Hash:
    algorithm: Literal["sha512", "sha384", "sha256", "sha1", "md5"] = option(
        "sha512", "Computed for os_hash_value; the same on all nodes of one database."
    )


@attrs.frozen(kw_only=True)
class Transfer:
    window: Size = option(Size(8 << 20), "Bytes of one upload that may wait in memory.")
    memory: Size = option(
        Size(256 << 20), "Bytes of all uploads together; their windows shrink to it."
    )
    threads: int = option(8, "Threads that hash, write and read the bytes of images.")


@attrs.frozen(kw_only=True)
class Healthcheck:
    disable_by_file: str | None = option(
        None, "While this file exists, /healthcheck answers 503 DISABLED BY FILE."
    )


@attrs.frozen(kw_only=True)
class Logging:
    format: Literal["text", "json"] = option(
        "text", "One line of text, or one JSON object, a line."
    )
    level: Literal["debug", "info", "warn", "error"] = option("info", "Least level that is logged.")
    access: bool = option(True, "Whether every request is logged.")
    file: str | None = option(
        None, "Append to this file, which may be moved away; null: standard output."
    )


@attrs.frozen(kw_only=True)
class Config:
    """The whole file."""

    server: Server = option(Server, "Where and how we listen.")
    pipeline: tuple[str, ...] = option(
        ("proxy_headers", "cors", "request_id", "version", "auth_token", "context"),
        "What a request passes through, in this order.",
    )
    cors: Cors = option(Cors, "Calls from web pages of other origins.")
    auth: Auth = option(Auth, "Who is asking.")
    database: Database = option(Database, "Where images are recorded.")
    stores: Mapping[str, StoreEntry] = option(
        lambda: {"local": StoreEntry("file", FileConfig(path="var/images"))},
        "Where the bytes of images are kept: names of your choice, each with a type.",
    )
    default_store: str = option("local", "The store that takes new images.")
    api: Api = option(Api, "The Images API.")
    locations: Locations = option(Locations, "Where the bytes of images lie, in their documents.")
    import_: Import = option(Import, "Data that comes from other servers.")
    limits: Limits = option(Limits, "How much is too much.")
    formats: Formats = option(Formats, "Which images are accepted.")
    hash: Hash = option(Hash, "The second checksum, beside MD5.")
    transfer: Transfer = option(Transfer, "Memory and threads for the bytes of images.")
    healthcheck: Healthcheck = option(Healthcheck, "GET /healthcheck, for load balancers.")
    logging: Logging = option(Logging, "What is logged, and where to.")


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
        root = yaml.compose(text, Loader=_Loader)
        document = yaml.load(text, _Loader)  # noqa: S506  _Loader is a SafeLoader
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigError(f"{name}:{line}: not valid YAML: {error.problem}") from None
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
        found = sorted((_line(root, path), _dotted(path), text) for path, text in mistakes)
        raise ConfigError("\n".join(f"{name}:{line}: {at}: {text}" for line, at, text in found))
    return config


def located(path: Path | None, error: ConfigError) -> str:
    """Return the error's message, with file and line where an option of the file is at fault."""
    if path is None or not isinstance(error, OptionError):
        return str(error)
    root = yaml.compose(path.read_text(encoding="utf-8"), Loader=_Loader)
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
    if config.api.page_default > config.api.page_max:
        found.append((["api", "page_default"], "is more than api.page_max"))
    found += [(path, f"must be at least {least}") for path, least in _too_small(config)]
    if not config.server.listen:
        found.append((["server", "listen"], "names no endpoint"))
    return found


_LEAST: Mapping[str, Mapping[str, int]] = {
    "server": {"backlog": 1, "max_header_line": 1024, "max_headers_size": 1024, "max_headers": 10},
    "database": {"threads": 1},
    "api": {"page_default": 1, "page_max": 1, "max_body": 1024, "max_request_id": 1},
    "transfer": {"window": 1 << 20, "memory": 1 << 20, "threads": 1},
}


def _too_small(config: Config) -> "Iterator[tuple[list[str | int], int]]":
    for section, options in _LEAST.items():
        for name, least in options.items():
            if getattr(getattr(config, section), name) < least:
                yield [section, name], least


# -- values ---------------------------------------------------------------------------------------

_SIZE = re.compile(r"(\d+)\s*(?:([KMGTP]i?)?B?)", re.IGNORECASE)
_POWERS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4, "P": 5}


def parse_size(value: object, _type: object = None) -> Size:
    """Read 10, "10", 10KB (1000), 10KiB (1024)."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return Size(value)
    matched = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
    if matched is None:
        raise ValueError(f"expected a size such as 10GiB, got {value!r}")
    number, unit = matched.groups(default="")
    base = 1024 if unit[1:].lower() == "i" else 1000
    return Size(int(number) * base ** _POWERS[unit[:1].upper()])


def _duration(value: object, _type: object) -> Duration:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e9:
        raise ValueError(f"expected a number of seconds, got {value!r}")
    return Duration(value)


def _string(value: object, _type: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"expected a string, got {value!r}")
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


def _secret_variable(name: str) -> str:
    value = os.environ.get(name)
    if value is None:
        raise ValueError(f"the environment variable {name} is not set")
    return value


def _integer(value: object, _type: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"expected a whole number, got {value!r}")
    return value


def _boolean(value: object, _type: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"expected true or false, got {value!r}")
    return value


def _literal(value: object, type_: Any) -> object:
    allowed = get_args(type_)
    if value not in allowed:
        raise ValueError(f"expected one of {', '.join(map(str, allowed))}, got {value!r}")
    return value


def _sequence(value: object, type_: Any) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise ValueError(f"expected a list, got {value!r}")
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
            raise ValueError(f"expected keys and values, got {value!r}")
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
    converter.register_structure_hook_func(lambda t: t is Size, parse_size)
    converter.register_structure_hook_func(lambda t: t is Duration, _duration)
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
            ([*path, key], _unknown_key(key, error.cl))
            for key in sorted(map(str, error.extra_fields))
        ]
    if isinstance(error, KeyError):
        return [(path, "is required")]  # the note has already told which
    return [(path, str(error))]


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


def _dotted(path: list[str | int]) -> str:
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return text.lstrip(".") or "the file"


def _line(node: yaml.Node | None, path: list[str | int]) -> int:
    """Return the line, from 1, of the deepest part of the path that is in the file."""
    line = 1
    for step in path:
        if isinstance(node, yaml.MappingNode):
            found = next((pair for pair in node.value if pair[0].value == step), None)
            if found is None:
                break
            line, node = found[0].start_mark.line + 1, found[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(step, int):
            node = node.value[step]
            line = node.start_mark.line + 1
        else:
            break
    return line
