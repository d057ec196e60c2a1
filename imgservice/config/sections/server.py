"""Where the service listens, and its connections, processes and timeouts."""

from collections.abc import Iterator
from typing import Literal

import attrs

from imgservice.config.forms import ADDRESSES, UMASK
from imgservice.domain.options import Mistake, option, required
from imgservice.domain.units import Duration, Endpoints, Size

Workers = int | Literal["auto"]
MOST_WORKERS = 1000


@attrs.frozen(kw_only=True)
class TlsPair:
    certificate: str = required("PEM file with the certificate, followed by its intermediates.")
    key: str = required("PEM file with the private key, unencrypted.")


@attrs.frozen(kw_only=True)
class TlsOptions(TlsPair):
    more: tuple[TlsPair, ...] = option(
        (), "More certificates with their keys, selected by the server name that clients send."
    )
    client_ca: str | None = option(
        None, "PEM file with the authorities that sign client certificates."
    )
    client_auth: Literal["required", "optional"] = option(
        "required", "With client_ca, whether clients must present a certificate."
    )
    min_version: Literal["1.2", "1.3"] = option("1.2", "Lowest TLS version that is accepted.")
    ciphers: str | None = option(
        None,
        "TLS 1.2 ciphers, in OpenSSL's notation. null: ECDHE with AES-GCM or ChaCha20.",
    )

    def contradictions(self) -> Iterator[Mistake]:
        if self.client_auth == "optional" and self.client_ca is None:
            yield ["client_auth"], "optional needs client_ca"


@attrs.frozen(kw_only=True)
class ServerOptions:
    listen: Endpoints = option(
        Endpoints(("tcp:9292:interface=127.0.0.1",)),
        'Addresses to listen on: "127.0.0.1:9292", "[::1]:9292", 9292, or Twisted endpoint'
        " strings.",
    )
    tls: TlsOptions | None = option(
        None,
        "Serve over TLS: {certificate: FILE, key: FILE}. With client_ca: FILE, clients must present"
        " a certificate that one of its authorities has signed. More keys: more, client_auth,"
        " min_version, ciphers.",
    )
    public_url: str | None = option(
        None, "URL of this service in links. null: taken from each request."
    )
    trusted_proxies: tuple[str, ...] = option(
        (),
        "Addresses or networks of proxies whose Forwarded and X-Forwarded-* headers are believed.",
        form=ADDRESSES,
    )
    workers: Workers = option(
        0,
        "Worker processes. auto: one for each CPU. 0: serve in the main process.",
        ge=0,
        le=MOST_WORKERS,
    )
    backlog: int = option(4096, "Maximum number of connections waiting to be accepted.", ge=1)
    max_connections: int | None = option(
        None,
        "Maximum number of connections of each process; more wait in the backlog. null: as many as"
        " the limit of open files allows, a quarter of which is reserved for other files.",
        ge=1,
    )
    max_connections_per_address: int | None = option(
        1000,
        "Maximum number of connections from one address, which in IPv6 is a /64 network; more are"
        " closed at once. Loopback, trusted_proxies and limits.rate.address.exempt are not counted."
        " null: no limit.",
        ge=1,
    )
    tcp_keepidle: Duration = option(
        Duration(600), "Idle time before TCP keepalive probes are sent. 0: never."
    )
    keepalive: bool = option(
        True, "Keep connections open between requests. false: close after each response."
    )
    max_header_line: int = option(
        16384, "Maximum length of the request line and of each header, in bytes.", ge=1024
    )
    max_headers_size: int = option(
        65536, "Maximum length of the request line and all headers together, in bytes.", ge=1024
    )
    max_headers: int = option(200, "Maximum number of headers in a request.", ge=10)
    idle_timeout: Duration = option(
        Duration(900), "Close connections on which the client neither sends nor reads for so long."
    )
    header_timeout: Duration = option(
        Duration(60), "Time within which all headers of a request must arrive."
    )
    min_rate: int = option(
        100,
        "Minimum transfer rate in bytes per second, averaged over min_rate_time. Clients that send"
        " a body or read a response more slowly are disconnected; time that they wait for this"
        " service does not count. Also applies to servers that data is fetched from. 0: no limit.",
        ge=0,
    )
    min_rate_time: Duration = option(
        Duration(120), "Period over which the transfer rate is averaged.", ge=1
    )
    answer_memory: Size = option(
        Size(64 << 20),
        "Memory of each process for large responses, such as lists. When it is used up, lists wait,"
        " and clients that do not read their responses are disconnected.",
    )
    shutdown_grace: Duration = option(
        Duration(60), "Time that running requests get to finish when the service stops."
    )
    reload_grace: Duration = option(
        Duration(3600),
        "Time that running requests get to finish, with the old configuration, after a reload.",
    )
    drain_delay: Duration = option(
        Duration(15),
        "After `imgservice drain`, /healthcheck responds 503 for so long before new connections are"
        " refused. Set it to the time that load balancers need to notice.",
    )
    hang_limit: Duration = option(
        Duration(30),
        "A process that is blocked for so long logs where; a blocked worker is replaced. 0: never.",
    )
    umask: str | None = option(
        "027",
        "Permissions that are removed from new files, in octal. null: the umask at the start.",
        form=UMASK,
    )
    state_file: str | None = option(
        "var/imgservice.state", "File for the state that `imgservice status` shows. null: no file."
    )

    def contradictions(self) -> Iterator[Mistake]:
        if not self.listen:
            yield ["listen"], "must have at least one address"
        for index, description in enumerate(self.listen):
            if description in self.listen[:index]:
                yield ["listen", index], f"{description!r} is listed twice"
