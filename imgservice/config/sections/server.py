"""How the service listens, and its connections, processes and timeouts."""

from typing import Literal

import attrs

from imgservice.domain.options import option, required
from imgservice.domain.units import Duration, Endpoints, Size

Workers = int | Literal["auto"]
MOST_WORKERS = 1000


@attrs.frozen(kw_only=True)
class TlsPair:
    certificate: str = required("PEM file: the certificate, then its intermediates.")
    key: str = required("PEM file with the private key, unencrypted.")


@attrs.frozen(kw_only=True)
class TlsOptions(TlsPair):
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
class ServerOptions:
    listen: Endpoints = option(
        Endpoints(("tcp:9292:interface=127.0.0.1",)),
        'Where to listen: "127.0.0.1:9292", "[::1]:9292", 9292, or Twisted endpoint strings.',
    )
    tls: TlsOptions | None = option(
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
