"""The options of the configuration file as frozen values, each with its default."""

from collections.abc import Mapping
from typing import Any, Literal

import attrs

from imgservice.domain.units import Duration, Secret, Size
from imgservice.store import registry
from imgservice.store.file import FileConfig


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
