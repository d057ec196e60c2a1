"""A small site around one handler, and a client that decides about every byte."""

import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event
from typing import Any, TypeVar

import attrs
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from twisted.internet import reactor as installed_reactor
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.task import deferLater
from twisted.internet.threads import blockingCallFromThread, deferToThread

from imgservice.concurrency.reactor import DelayedCall
from imgservice.config.sections.server import TlsOptions
from imgservice.http.connection_limits import ConnectionLimits
from imgservice.http.limits import ServerLimits
from imgservice.http.pipeline import Pipeline, Step
from imgservice.http.request import StreamingRequest
from imgservice.http.response import Response
from imgservice.http.route import Body, Route, serves, shows
from imgservice.http.routing import ApiApp, Tasks
from imgservice.http.site import StreamingSite
from imgservice.process.tls.contexts import ServerContexts
from imgservice.process.tls.files import read_material
from imgservice.process.tls.transport import TlsEndpoint

reactor: Any = installed_reactor

Handler = Callable[[StreamingRequest], Awaitable[Response | None]]
T = TypeVar("T")
TIMEOUT = 60.0
"""Seconds in which everything happens, however busy the machine is."""
LONG = 10 * TIMEOUT
"""Seconds that the service gives to its clients, where a test does not say otherwise."""
METHODS = ["GET", "POST", "PUT", "DELETE"]


async def pause(seconds: float) -> None:
    await deferLater(reactor, seconds)


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that must happen."""
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        await pause(0.005)


def until_in_thread(condition: Callable[[], bool]) -> None:
    """Do the same in a client's thread."""
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.005)


@attrs.frozen
class Certificate:
    """A self-signed certificate for 127.0.0.1 in two PEM files."""

    certificate: Path
    key: Path

    @classmethod
    def make(cls, folder: Path) -> "Certificate":
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
        now = datetime.now(UTC)
        signed = (
            x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .sign(key, hashes.SHA256())
        )
        made = cls(folder / "certificate.pem", folder / "key.pem")
        made.certificate.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
        made.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return made


class StoppedClock:
    """Tells the time by which connections are late; it passes only when a test lets it pass.

    Timers run as usual.
    """

    def __init__(self) -> None:
        self.now = 0.0

    def seconds(self) -> float:
        return self.now

    def callLater(self, delay: float, call: Callable[..., object], /, *args: object) -> DelayedCall:
        timer: DelayedCall = reactor.callLater(delay, call, *args)
        return timer


class RecordingSite(StreamingSite):
    """Keeps every request that was logged."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.logged: list[StreamingRequest] = []

    def log(self, request: Any) -> None:
        self.logged.append(request)


def _everywhere(path: str, body: Body) -> list[Route]:
    about = shows("Do what the test wants.")
    return [Route(method, path, about, f"{method} {path}", body=body) for method in METHODS]


class Everything:
    """Serves all paths; with a body all but one."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler

    @serves(*_everywhere("/<path:_>", Body.DATA), *_everywhere("/bodyless", Body.NONE))
    async def handle(self, request: StreamingRequest, _: str = "") -> Response | None:
        return await self._handler(request)


class Serving:
    """One handler behind the real site, pipeline and Klein app, on a port of its own."""

    def __init__(
        self,
        handler: Handler,
        *,
        steps: Sequence[Step] = (),
        certificate: Certificate | None = None,
        connection_limits: ConnectionLimits | None = None,
        clock: StoppedClock | None = None,
        **limits: Any,
    ) -> None:
        patience = {"linger_time": LONG, "header_timeout": LONG, "sweep_interval": 0.05}
        self.tasks = Tasks()
        self.clock = clock
        self.tls = certificate is not None
        self.site = RecordingSite(
            Pipeline(steps, self._app(handler).resource()),
            reactor=reactor if clock is None else clock,
            limits=ServerLimits(**{**patience, **limits}),
            connection_limits=connection_limits,
        )
        endpoint: Any = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
        if certificate is not None:
            files = TlsOptions(certificate=str(certificate.certificate), key=str(certificate.key))
            endpoint = TlsEndpoint(reactor, endpoint, ServerContexts(read_material(files)))
        listening: list[Any] = []
        endpoint.listen(self.site).addCallback(listening.append)
        self.listener = listening[0]
        self.site.connection_limits.watch(self.listener)
        self.port: int = self.listener.getHost().port

    def _app(self, handler: Handler) -> ApiApp:
        return ApiApp(self.tasks, [Everything(handler)], json_limit=1 << 20)

    def open(self, **options: Any) -> "Wire":
        """Connect; called in a thread."""
        return Wire(self.port, self.tls, **options)

    async def talk(self, client: Callable[["Wire"], T], **options: Any) -> T:
        """Run a client in a thread with one connection."""

        def run() -> T:
            with self.open(**options) as wire:
                return client(wire)

        result: T = await deferToThread(run)
        return result

    def passes(self, seconds: float) -> None:
        """Let so much time pass, in a client's thread, and let the site see who is late."""
        assert self.clock is not None
        self.clock.now += seconds
        in_reactor(self.site._sweeper._sweep)

    def until_left(self) -> None:
        """Wait, in a client's thread, until we have no connection with anybody."""

        def have_left() -> bool:
            if self.clock is not None:
                self.passes(1)
            return not self.site.channels

        until_in_thread(have_left)

    async def quiet(self) -> None:
        """Wait until no connection and no handler is left."""
        await until(lambda: not self.site.channels)
        await self.tasks.ended()

    async def stop(self) -> None:
        stopping = self.listener.stopListening()
        if stopping is not None:  # else a test has stopped it
            await stopping
        self.site.abort()
        await self.quiet()


@attrs.frozen
class Reply:
    status: int
    headers: Mapping[str, str]
    body: bytes
    version: str = "HTTP/1.1"


class Wire:
    """A blocking client socket."""

    def __init__(
        self,
        port: int,
        tls: bool = False,
        receive_buffer: int | None = None,
        alpn: Sequence[str] = (),
        source: str | None = None,
    ) -> None:
        plain = socket.socket()
        if source is not None:
            plain.bind((source, 0))
        if receive_buffer is not None:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        plain.settimeout(TIMEOUT)
        plain.connect(("127.0.0.1", port))
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket: Any = _wrap(plain, alpn) if tls else plain
        self._waiting = b""

    def __enter__(self) -> "Wire":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.socket.close()

    def reset(self) -> None:
        """Close the connection with a reset."""
        linger_off = b"\x01\x00\x00\x00\x00\x00\x00\x00"
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger_off)
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def ask(self, method: str, path: str = "/x", *headers: str, body: bytes = b"") -> None:
        """Send a whole request."""
        self.send(request_bytes(method, path, *headers, body=body))

    def some(self, most: int = 1 << 16) -> bytes:
        """Return some bytes, none at the end."""
        if self._waiting:
            found, self._waiting = self._waiting[:most], self._waiting[most:]
            return found
        received: bytes = self.socket.recv(most)
        return received

    def exactly(self, count: int) -> bytes:
        pieces: list[bytes] = []
        while count:
            piece = self.some(min(count, 1 << 20))
            assert piece, "the connection ended too early"
            pieces.append(piece)
            count -= len(piece)
        return b"".join(pieces)

    def until_end(self) -> bytes:
        """Return all that comes before the server closes."""
        pieces = []
        while piece := self.some():
            pieces.append(piece)
        return b"".join(pieces)

    def head(self) -> bytes:
        """Return the next status line and headers."""
        data = b""
        while b"\r\n\r\n" not in data:
            piece = self.some()
            assert piece, f"the connection ended in the headers: {data!r}"
            data += piece
        head, _, self._waiting = data.partition(b"\r\n\r\n")[0], None, _after(data) + self._waiting
        return head

    def reply(self, method: str = "GET") -> Reply:
        """Return the next answer, which must tell its length unless it cannot have a body."""
        status_line, *lines = self.head().decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        version, status = status_line.split(" ")[0], int(status_line.split(" ")[1])
        bodyless = method == "HEAD" or status in (100, 204, 304)
        body = b"" if bodyless else self.exactly(int(headers["content-length"]))
        return Reply(status, headers, body, version)

    def ends(self) -> bool:
        """Wait for the end of the connection; False if bytes come instead."""
        return self.some() == b""

    def silent(self, seconds: float = 0.1) -> bool:
        """Tell whether nothing comes for a while."""
        assert not self._waiting, self._waiting
        self.socket.settimeout(seconds)
        try:
            self._waiting = self.socket.recv(1)
        except TimeoutError:
            return True
        finally:
            self.socket.settimeout(TIMEOUT)
        return False


def _after(data: bytes) -> bytes:
    return data.partition(b"\r\n\r\n")[2]


def _wrap(plain: socket.socket, alpn: Sequence[str]) -> ssl.SSLSocket:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context.wrap_socket(plain)


def request_bytes(method: str, path: str = "/x", *headers: str, body: bytes = b"") -> bytes:
    """Write a request; Content-Length is added where there is a body."""
    lines = [f"{method} {path} HTTP/1.1", "Host: here", *headers]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def chunked(*pieces: bytes) -> bytes:
    """Write a chunked body."""
    return b"".join(b"%x\r\n%s\r\n" % (len(one), one) for one in (*pieces, b""))


def in_reactor(call: Callable[[], T]) -> T:
    """Call something in the reactor, from a client's thread."""
    result: T = blockingCallFromThread(reactor, call)
    return result


class Signal:
    """Something that a handler or a client waits for, and that the other lets happen."""

    def __init__(self) -> None:
        self._happened = Event()

    async def wait(self) -> None:
        await until(self._happened.is_set)

    def wait_in_thread(self) -> None:
        assert self._happened.wait(TIMEOUT), "it did not happen in time"

    def happen(self) -> None:
        """Called anywhere."""
        self._happened.set()


async def echo(request: StreamingRequest) -> Response:
    """A handler that answers with the method, the path and the body."""
    body = b""
    while piece := await request.body.read():
        body += piece
    return Response(200, b"%s %s %s" % (request.method, request.path, body), "text/plain")
