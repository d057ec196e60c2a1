"""Where a server listens, and the raw connection that transfers use."""

import re
import socket
import ssl
import struct
from pathlib import Path
from urllib.parse import urlsplit

import attrs

from bench.errors import Wrong

LOOPBACK = "127.0.0.1"
PATIENCE_SECONDS = 120
WITHOUT_BODY = (204, 304)


@attrs.frozen
class Address:
    """An HTTP server; over TLS when `certificate` is given, the one to be trusted."""

    host: str
    port: int
    prefix: str = ""
    token: str | None = None
    certificate: Path | None = None
    headers: tuple[tuple[str, str], ...] = ()
    """Sent with every request."""

    def url(self, path: str) -> str:
        """Return the URL of `path`."""
        scheme = "https" if self.certificate else "http"
        return f"{scheme}://{self.host}:{self.port}{self.prefix}{path}"

    @property
    def identity(self) -> tuple[tuple[str, str], ...]:
        """The headers that identify the caller."""
        return (*((("X-Auth-Token", self.token),) if self.token else ()), *self.headers)

    def request(self, method: str, path: str, body: bytes = b"", **headers: str) -> bytes:
        """Return a whole request; `headers` are spelled with underscores."""
        lines = [f"{method} {self.prefix}{path} HTTP/1.1", f"Host: {self.host}:{self.port}"]
        lines += [f"{name}: {value}" for name, value in self.identity]
        if body:
            lines.append(f"Content-Length: {len(body)}")
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        return "\r\n".join([*lines, "", ""]).encode() + body

    def connect(self, source: str | None = None) -> socket.socket:
        """Return a blocking connection on which every read and write has a time limit.

        `source` is the address from which it comes, where that matters.
        """
        connection = socket.create_connection(
            (self.host, self.port), PATIENCE_SECONDS, (source, 0) if source else None
        )
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.certificate:
            context = ssl.create_default_context(cafile=str(self.certificate))
            return context.wrap_socket(connection, server_hostname=self.host)
        _limit_in_kernel(connection)
        return connection


@attrs.frozen
class Head:
    """The first part of an answer; `rest` is what came of the body with it."""

    status: int
    length: int
    keeps_alive: bool
    rest: bytes


def parse_head(data: bytes) -> Head | None:
    """Return the head when it is complete; `Wrong` when it does not say how long the body is."""
    head, blank, rest = data.partition(b"\r\n\r\n")
    if not blank:
        return None
    length = re.search(rb"(?i)\ncontent-length: *(\d+)", head)
    status = int(head[9:12])
    if not length and status not in WITHOUT_BODY:
        raise Wrong(f"an answer has no Content-Length: {head[:200]!r}")
    return Head(
        status=status,
        length=int(length[1]) if length else 0,
        keeps_alive=not re.search(rb"(?i)\nconnection: *close", head),
        rest=rest,
    )


def read_head(connection: socket.socket) -> Head:
    """Read until the head of the answer is complete."""
    data = b""
    while (head := parse_head(data)) is None:
        more = connection.recv(65536)
        if not more:
            raise Wrong(f"the connection was closed instead of an answer, after {data[:60]!r}")
        data += more
    return head


def exchange(connection: socket.socket, request: bytes) -> tuple[int, bytes]:
    """Send one request and return the status and the body of its answer."""
    connection.sendall(request)
    head = read_head(connection)
    body = head.rest
    while len(body) < head.length:
        more = connection.recv(65536)
        if not more:
            raise Wrong(f"an answer ended after {len(body)} of {head.length} bytes")
        body += more
    return head.status, body


def ask(address: Address, request: bytes) -> tuple[int, bytes]:
    """Send one request on a connection of its own."""
    with address.connect() as connection:
        return exchange(connection, request)


def address_of(url: str, token: str | None) -> Address:
    """Return the address of a plain http URL."""
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname:
        raise ValueError(f"{url} is not an http:// URL")
    return Address(parts.hostname, parts.port or 80, parts.path.rstrip("/"), token)


def free_port() -> int:
    """Return a port on which nothing listened a moment ago."""
    with socket.create_server((LOOPBACK, 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def _limit_in_kernel(connection: socket.socket) -> None:
    """Set the time limits as socket options: Python's own make the socket non-blocking,
    and then os.sendfile would need a poll around each call."""
    connection.settimeout(None)
    limit = struct.pack("ll", PATIENCE_SECONDS, 0)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
