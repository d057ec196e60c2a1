"""The options of the configuration file as frozen values, each with its default."""

from collections.abc import Mapping
from typing import Any, Literal

import attrs

from imgservice.domain.rates import ByteRate, Rate
from imgservice.domain.units import Duration, Endpoints, Secret, Size, Urls
from imgservice.store import registry
from imgservice.store.file import FileConfig

Workers = int | Literal["auto"]


def option(default: Any, doc: str) -> Any:
    """Declare a key with its default and the sentence that the sample file says about it."""
    if callable(default):
        return attrs.field(factory=default, metadata={"doc": doc})
    return attrs.field(default=default, metadata={"doc": doc})


def required(doc: str) -> Any:
    """Declare a key that has no default."""
    return attrs.field(metadata={"doc": doc})


@attrs.frozen(kw_only=True)
class TlsPair:
    certificate: str = required("PEM file: the certificate, then its intermediates.")
    key: str = required("PEM file with the private key, unencrypted.")


@attrs.frozen(kw_only=True)
class Tls(TlsPair):
    more: tuple[TlsPair, ...] = option(
        (), "Further certificates with their keys, for clients that ask for one of their names."
    )
    client_ca: str | None = option(
        None, "PEM file of the authorities one of which must have signed a client's certificate."
    )
    client_auth: Literal["required", "optional"] = option(
        "required", "Whether a client without a certificate gets in where there is client_ca."
    )
    min_version: Literal["1.2", "1.3"] = option("1.2", "The oldest version of TLS.")
    ciphers: str | None = option(
        None, "Those of TLS 1.2, as OpenSSL writes them; null: ECDHE with AES-GCM or ChaCha20."
    )


@attrs.frozen(kw_only=True)
class Server:
    listen: Endpoints = option(
        Endpoints(("tcp:9292:interface=127.0.0.1",)),
        'Where to listen: "127.0.0.1:9292", "[::1]:9292", 9292, or Twisted endpoint strings.',
    )
    tls: Tls | None = option(
        None,
        "{certificate: FILE, key: FILE} turns TLS on; with client_ca: FILE, only clients with a"
        " certificate of one of its authorities get in. Further keys: more, client_auth,"
        " min_version and ciphers.",
    )
    public_url: str | None = option(
        None, "How clients reach us, for links in answers; null: as they asked."
    )
    trusted_proxies: tuple[str, ...] = option(
        (), "Addresses or networks whose Forwarded and X-Forwarded-* headers are believed."
    )
    workers: Workers = option(
        0,
        "Processes that serve; auto: one for each processor; 0: only this one, without a parent.",
    )
    backlog: int = option(4096, "Connections that may wait to be accepted.")
    max_connections: int | None = option(
        None,
        "Most connections of this process; more wait in the backlog. null: as many as there are"
        " descriptors for, of which a quarter is kept for files.",
    )
    max_connections_per_address: int | None = option(
        1000,
        "Most connections from one address, which in IPv6 is a /64 network; more are closed at"
        " once. Loopback, trusted_proxies and limits.rate.address.exempt are not counted; null:"
        " any number.",
    )
    tcp_keepidle: Duration = option(
        Duration(600), "Idle time before TCP probes a client; 0: never."
    )
    keepalive: bool = option(
        True, "Whether a connection stays open for another request; false: one request each."
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
    min_rate: int = option(
        100,
        "Bytes a second that a client must send of a body, or read of an answer, on the average of"
        " min_rate_time; else it is disconnected. What we make it wait for does not count. 0: off."
        " Holds for servers from which we read data, too.",
    )
    min_rate_time: Duration = option(Duration(120), "Seconds over which that is measured.")
    answer_memory: Size = option(
        Size(64 << 20),
        "Bytes of large answers, such as lists, that may be in the memory of a process. Beyond it,"
        " lists wait, and clients that do not read their answers are disconnected.",
    )
    shutdown_grace: Duration = option(
        Duration(60), "How long running requests may go on after a stop was asked for."
    )
    reload_grace: Duration = option(
        Duration(3600),
        "How long requests that were there before a reload may go on, with the old configuration.",
    )
    drain_delay: Duration = option(
        Duration(15),
        "How long `imgservice drain` lets /healthcheck answer 503 before no more connections are"
        " accepted: as long as load balancers take to notice.",
    )
    hang_limit: Duration = option(
        Duration(30),
        "A process that does nothing for so long logs where it is stuck; a worker is replaced; 0:"
        " never.",
    )
    umask: str | None = option(
        "027", "Rights that files we make do not have, in octal; null: as it was started with."
    )
    state_file: str | None = option(
        "var/imgservice.state", "Where we write how we are, for `imgservice status`; null: nowhere."
    )


@attrs.frozen(kw_only=True)
class Node:
    url: str | None = option(
        None,
        "How the other nodes that share the database reach this one, such as http://node1:9292.",
    )
    peers: tuple[str, ...] | None = option(
        None,
        "URLs of the other nodes, to which requests may be sent on with what proves who asks; null:"
        " those that nodes have recorded in the database, unless they are this host or its link.",
    )
    ca_file: str | None = option(
        None, "PEM file of whom to trust there; null: the authorities that the system trusts."
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
    roles: tuple[str, ...] = option(("admin",), "... with these roles.")
    anywhere: bool = option(
        False, "Allow this mode on addresses other than loopback: anybody may then do anything."
    )
    hosts: tuple[str, ...] = option(
        (),
        'Host names, beside localhost and that of server.public_url, by which we may be asked; "*":'
        " any, and then any web page that is open on this machine can do everything, too.",
    )


@attrs.frozen(kw_only=True)
class TrustedHeaders:
    from_: tuple[str, ...] = option(
        ("127.0.0.1", "::1"), "Addresses or networks of the proxy that has authenticated the user."
    )
    hosts: tuple[str, ...] = option(
        (), "If not empty, the only host names, beside localhost, by which we may be asked."
    )


@attrs.frozen(kw_only=True)
class BasicAuth:
    file: str | None = option(None, "htpasswd file with bcrypt hashes, as `htpasswd -B` makes it.")
    users: str | None = option(
        None,
        "YAML file with the project and the roles of every user, as in"
        " `alice: {project: apollo, roles: [member]}`; null: each user has a project of the user's"
        " own name.",
    )
    roles: tuple[str, ...] = option(
        ("member",), "Roles of all users where there is no file of users."
    )


@attrs.frozen(kw_only=True)
class TokenAuth:
    file: str | None = option(None, "File of hashed tokens; `imgservice token` looks after it.")


@attrs.frozen(kw_only=True)
class CertificateAuth:
    file: str | None = option(
        None,
        "YAML file that says whom the subject of a certificate stands for, as in"
        ' `"CN=alice,O=Example": {user: alice, project: apollo, roles: [member]}`.',
    )


@attrs.frozen(kw_only=True)
class KeystoneAuth:
    url: Urls = option(
        Urls(()),
        "Where Keystone is, such as https://keystone:5000/v3; or a list: the next one is asked when"
        " one fails.",
    )
    username: str | None = option(
        None, "Who we are ourselves, with password and project: a user with the role service."
    )
    password: Secret | None = option(None, "That user's password.")
    project: str | None = option(
        "service", "The project in which that user has the role; null: the whole system."
    )
    user_domain: str = option("Default", "The name of that user's domain.")
    user_domain_id: str | None = option(None, "... or its id.")
    project_domain: str = option("Default", "The name of the project's domain.")
    project_domain_id: str | None = option(None, "... or its id.")
    application_credential_id: str | None = option(
        None, "In place of user and password: the id of an application credential."
    )
    application_credential_secret: Secret | None = option(None, "Its secret.")
    token_file: str | None = option(
        None, "In place of both: a file with a token, read again when somebody renews it."
    )
    ca_file: str | None = option(
        None, "PEM file of whom to trust; null: the authorities that the system trusts."
    )
    insecure: bool = option(
        False, "Take anybody for Keystone who answers: whoever is on the way can let himself in."
    )
    timeout: Duration = option(
        Duration(20), "Longest time that a request waits for Keystone; then it is told to retry."
    )
    connections: int = option(8, "Most questions to Keystone at the same time.")
    cache_time: Duration = option(
        Duration(300),
        "How long an answer about a token is believed, and so the longest time for which a revoked"
        " token still works; 0: ask every time.",
    )
    cache_size: int = option(10_000, "Tokens that are remembered.")
    service_token_roles: tuple[str, ...] = option(
        ("service",), "The token of a service that asks for a user needs one of these roles."
    )
    service_token_roles_required: bool = option(
        True,
        "False: any token is taken for a service's; without the role it still gives no rights.",
    )
    www_authenticate_uri: str | None = option(
        None, "Where clients are told to get a token; null: at the first of the URLs."
    )


@attrs.frozen(kw_only=True)
class Auth:
    mode: Literal[
        "none", "basic", "tokens", "keystone", "client_certificate", "trusted_headers"
    ] = option(
        "none",
        "none: no questions asked; basic: user and password; tokens: static tokens; keystone:"
        " tokens of Keystone; client_certificate: TLS certificates; trusted_headers: a proxy in"
        " front says who it is.",
    )
    none: NoAuth = option(NoAuth, "For the mode none.")
    basic: BasicAuth = option(BasicAuth, "For the mode basic.")
    tokens: TokenAuth = option(TokenAuth, "For the mode tokens.")
    keystone: KeystoneAuth = option(KeystoneAuth, "For the mode keystone.")
    client_certificate: CertificateAuth = option(
        CertificateAuth, "For the mode client_certificate, which needs server.tls.client_ca."
    )
    trusted_headers: TrustedHeaders = option(TrustedHeaders, "For the mode trusted_headers.")
    anonymous_read: bool = option(
        False, "Whether one without an identity may look at public images."
    )
    clear_text: bool = option(
        False,
        "Allow the modes basic and tokens without TLS on addresses other than loopback: whoever"
        " is on the way can then read the passwords and tokens.",
    )


@attrs.frozen(kw_only=True)
class PropertyProtections:
    file: str | None = option(
        None, "Who may create, read, update and delete which custom properties; null: everybody."
    )
    format: Literal["roles", "policies"] = option(
        "roles", "Whether that file names roles, or each time one rule of the policy."
    )


@attrs.frozen(kw_only=True)
class Policy:
    file: str | None = option(
        None, "Rules that differ from the defaults: Glance's policy.yaml or policy.json as it is."
    )
    dirs: tuple[str, ...] = option(
        (), "Directories with more such files, which override it in the order of their names."
    )
    enforce_new_defaults: bool = option(
        True, "false: what the defaults of former releases allowed is allowed as well."
    )
    enforce_scope: bool = option(
        True, "Whether whoever asks for a domain, or for the whole cloud, is turned away."
    )
    property_protections: PropertyProtections = option(
        PropertyProtections, "Custom properties that are not for everybody; Glance's file works."
    )


@attrs.frozen(kw_only=True)
class Database:
    url: Secret = option(
        Secret("sqlite:///var/imgservice.db"),
        "SQLAlchemy URL of the database; like every secret also {file: PATH} or {env: NAME}.",
    )
    threads: int = option(2, "Threads that read SQLite at the same time.")
    pool: int = option(10, "Most connections to PostgreSQL or MariaDB that a process has.")
    pool_timeout: Duration = option(
        Duration(30), "How long a request may wait for one of them; then it is answered 503."
    )
    connect_timeout: Duration = option(Duration(5), "How long connecting may take.")
    answer_timeout: Duration = option(
        Duration(60), "A server that does not answer for so long is taken to be gone."
    )


@attrs.frozen
class StoreEntry:
    """One of the stores: its type, and the options that its driver defines."""

    type: str
    options: registry.StoreConfig


@attrs.frozen(kw_only=True)
class Api:
    page_default: int = option(25, "Images in a list when the client does not say.")
    page_max: int = option(1000, "Most images in a list, whatever the client says.")
    page_bytes: Size = option(
        Size(8 << 20),
        "A page of a list ends before the image with which it would become longer than this; how it"
        " goes on is told by `next`, as always. Each list takes a few times as much memory.",
    )
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
        "Networks that may be reached in any case. The addresses of this host, link-local ones and"
        " the metadata services of clouds are refused unless they are listed here.",
    )


@attrs.frozen(kw_only=True)
class Import:
    filter: UrlFilter = option(
        UrlFilter, "Which URLs that users name we may fetch; redirects are judged likewise."
    )


@attrs.frozen(kw_only=True)
class ProjectLimits:
    """The limits of one project, named as Keystone's unified limits for images are."""

    image_size_total: Size | None = option(
        None,
        "Most bytes of all its images, every copy counted, with what its running uploads may add;"
        " null: no limit.",
    )
    image_stage_total: Size | None = option(
        None, "Most bytes that wait to be imported, or are being copied."
    )
    image_count_total: int | None = option(None, "Most images.")
    image_count_uploading: int | None = option(None, "Most images whose data is on its way.")


@attrs.frozen(kw_only=True)
class KeystoneLimits:
    enabled: bool = option(
        False, "Whether Keystone's unified limits hold; auth.keystone says how to ask for them."
    )
    endpoint_id: str | None = option(
        None,
        "The endpoint for whose service and region limits are registered; null: that of service"
        " and region.",
    )
    service: str = option("image", "The type, or the name, of the service in Keystone's catalog.")
    region: str | None = option(None, "Its region; null: the only one there is.")
    cache_time: Duration = option(
        Duration(5), "How long the limits of a project are remembered; 0: ask every time."
    )


@attrs.frozen(kw_only=True)
class LocalLimits:
    default: ProjectLimits = option(ProjectLimits, "For projects that are not listed.")
    overrides: Mapping[str, ProjectLimits] = option(
        dict, "By a project's id: limits that hold for it in place of the default ones."
    )


@attrs.frozen(kw_only=True)
class AddressRates:
    requests: Rate | None = option(
        Rate(2000, 10000), "Requests from one address, which in IPv6 is a /64 network."
    )
    failures: Rate | None = option(
        Rate(10, 1000), "Requests from one address whose password or token was wrong."
    )
    exempt: tuple[str, ...] = option((), "Addresses or networks that these do not hold for.")


@attrs.frozen(kw_only=True)
class UserRates:
    requests: Rate | None = option(Rate(500, 5000), "Requests of one user.")
    bytes_in: ByteRate | None = option(
        None, "Bytes that one user uploads, such as {per_second: 50MiB, burst: 1GiB}."
    )
    bytes_out: ByteRate | None = option(None, "Bytes that one user downloads.")


@attrs.frozen(kw_only=True)
class ProjectRates:
    requests: Rate | None = option(Rate(1000, 10000), "Requests of one project.")
    creates: Rate | None = option(
        Rate(20, 1000),
        "Requests of one project that may add rows to the database: those that create images,"
        " members, tags and locations, and those that change images.",
    )
    bytes_in: ByteRate | None = option(None, "Bytes that one project uploads.")
    bytes_out: ByteRate | None = option(None, "Bytes that one project downloads.")


@attrs.frozen(kw_only=True)
class Rates:
    address: AddressRates = option(AddressRates, "Counted before it is known who asks.")
    user: UserRates = option(UserRates, "Counted for every user by himself.")
    project: ProjectRates = option(ProjectRates, "Counted for all users of a project together.")
    exempt_roles: tuple[str, ...] = option(
        ("admin", "service"), "Whoever has one of these roles is not limited."
    )


@attrs.frozen(kw_only=True)
class Uploads:
    total: int | None = option(1000, "Most uploads of everybody.")
    project: int | None = option(
        100, "Most uploads of one project, unless the role is one of rate.exempt_roles."
    )


@attrs.frozen(kw_only=True)
class Limits:
    image_size: Size = option(Size(1 << 40), "Most bytes in an image.")
    properties: int = option(128, "Most custom properties of an image; -1: no limit.")
    patch_operations: int = option(
        1000, "Most operations in one change of an image (PATCH); -1: no limit."
    )
    property_value: Size = option(
        Size((1 << 16) - 1),
        "Most bytes in the value of a custom property, such as a description, and in the metadata"
        " of a location; 0: no limit. MySQL and MariaDB hold no more than 65535. What is longer"
        " already stays.",
    )
    tags: int = option(128, "Most tags of an image; -1: no limit.")
    members: int = option(128, "Most projects an image is shared with; -1: no limit.")
    locations: int = option(10, "Most locations of an image; -1: no limit.")
    rate: Rates = option(
        Rates,
        "What this process takes {per_second: in the long run, burst: at once}; null: any number."
        " Requests beyond it are answered with 429, bytes are slowed down.",
    )
    uploads: Uploads = option(
        Uploads,
        "How many uploads may run at the same time in this process, those among them that read"
        " data from a location; null: any number.",
    )
    user_storage: Size = option(
        Size(0), "Most bytes of the images of any one project, every copy counted; 0: no limit."
    )
    keystone: KeystoneLimits = option(
        KeystoneLimits, "How much each project may have, as Keystone says it; or:"
    )
    projects: LocalLimits = option(LocalLimits, "How much each project may have, as said here.")


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
        True,
        "Refuse data whose format is not the declared one, and damaged images; what is not safe"
        " to use is always refused.",
    )
    raw_must_be_raw: bool = option(
        False,
        "Refuse data that is declared raw and is in another format, such as qcow2; false: it is"
        " logged, and administrators see the format as os_glance_detected_format.",
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
    accel: str | None = option(
        None,
        "Path, such as /stored, below which all of server.trusted_proxies find our files by"
        " themselves: downloads by way of them are answered with X-Accel-Redirect: PATH/STORE/FILE,"
        " and nginx sends the data; null: we send it.",
    )


@attrs.frozen(kw_only=True)
class Healthcheck:
    disable_by_file: str | None = option(
        None, "While this file exists, /healthcheck answers 503 DISABLED BY FILE."
    )
    interval: Duration = option(
        Duration(5), "Seconds between two looks at the database and the stores, which cost little."
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
    node: Node = option(Node, "This node beside others, of Glance or of ours, on one database.")
    pipeline: tuple[str, ...] = option(
        (
            "proxy_headers",
            "cors",
            "request_id",
            "address_limit",
            "version",
            "auth_token",
            "context",
            "rate_limit",
        ),
        "What a request passes through, in this order. There is one more step: gzip, before"
        " version, which compresses answers in JSON for clients that accept it.",
    )
    cors: Cors = option(Cors, "Calls from web pages of other origins.")
    auth: Auth = option(Auth, "Who is asking.")
    policy: Policy = option(Policy, "Who may do what.")
    database: Database = option(Database, "Where images are recorded.")
    stores: Mapping[str, StoreEntry] = option(
        lambda: {"local": StoreEntry("file", FileConfig(path="var/images"))},
        "Where the bytes of images are kept: names of your choice, each with a type.",
    )
    default_store: str = option("local", "The store that takes new images.")
    single_store: bool = option(
        False,
        "Whether clients see no stores: none in documents, headers and versions, none to choose."
        " Locations are found by their URLs. For clouds whose Glance has no enabled_backends.",
    )
    api: Api = option(Api, "The Images API.")
    locations: Locations = option(Locations, "Where the bytes of images lie, in their documents.")
    import_: Import = option(Import, "Data that comes from other servers.")
    limits: Limits = option(Limits, "How much is too much.")
    formats: Formats = option(Formats, "Which images are accepted.")
    hash: Hash = option(Hash, "The second checksum, beside MD5.")
    transfer: Transfer = option(Transfer, "Memory and threads for the bytes of images.")
    healthcheck: Healthcheck = option(Healthcheck, "GET /healthcheck, for load balancers.")
    logging: Logging = option(Logging, "What is logged, and where to.")
