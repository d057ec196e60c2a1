"""A server in Keystone's place that says what a test wants, however wrong it is."""

import json
import socket
import ssl
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Lock, Thread
from typing import Any

OWN_TOKEN = "own-token"
EXPIRES = "2099-01-01T00:00:00.000000Z"


class Asked(BaseHTTPRequestHandler):
    """One question, which a script answers."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: "_Server"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.scripted.issued += 1
        self.server.scripted.issue_after.wait(30)
        if not self.server.scripted.issuing:
            self.answer(401, {"error": {"code": 401}})
            return
        document = {"token": {"expires_at": EXPIRES}}
        self.answer(201, document, **{"X-Subject-Token": OWN_TOKEN})

    def do_GET(self) -> None:
        scripted = self.server.scripted
        with scripted.counting:
            scripted.asked += 1
            scripted.busy += 1
            scripted.busiest = max(scripted.busiest, scripted.busy)
        try:
            scripted.script(self)
        finally:
            with scripted.counting:
                scripted.busy -= 1

    @property
    def subject(self) -> str:
        return self.headers["X-Subject-Token"]

    def answer(self, status: int, document: Any, **headers: str) -> None:
        """Answer as Keystone does."""
        self.send(status, json.dumps(document).encode(), **headers)

    def send(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def raw(self, data: bytes, more: Iterable[bytes] = ()) -> None:
        """Send these bytes, and end the connection."""
        self.close_connection = True
        self.wfile.write(data)
        for piece in more:
            self.wfile.write(piece)

    def log_message(self, format: str, *args: Any) -> None:
        pass


def token_document(**more: Any) -> dict[str, Any]:
    token = {
        "user": {"id": "user", "domain": {"id": "default"}},
        "project": {"id": "project", "domain": {"id": "default"}},
        "roles": [{"name": "member"}, {"name": "reader"}],
        "expires_at": EXPIRES,
        **more,
    }
    return {"token": token}


def right(asked: Asked) -> None:
    """Know every token but those that begin with `bad`."""
    if asked.subject.startswith("bad"):
        asked.answer(404, {"error": {"code": 404, "message": "no"}})
    else:
        asked.answer(200, token_document(), **{"X-Subject-Token": asked.subject})


class Scripted:
    def __init__(self, port: int, tls: bool) -> None:
        self.port = port
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{port}/v3"
        self.script: Callable[[Asked], object] = right
        self.ending = Event()
        """Set when the server stops: scripts that go on for ever end then."""
        self.counting = Lock()
        self.issuing = True
        self.issue_after = Event()
        """Tokens are given out as soon as it is set, which it is at first."""
        self.issue_after.set()
        self.issued = 0
        """How often it was asked for a token."""
        self.asked = 0
        """How often it was asked about one."""
        self.busy = 0
        self.busiest = 0
        """Most questions at the same time."""

    def auth(self, **options: Any) -> Mapping[str, Any]:
        """Return the section `auth` of a service that asks here."""
        account = {"username": "u", "password": "made-up-password", "project": "p"}
        return {"mode": "keystone", "keystone": {"url": self.url, **account, **options}}


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    scripted: Scripted

    def handle_error(self, request: Any, client_address: Any) -> None:
        """The caller may disconnect in the middle."""

    def shutdown_request(self, request: Any) -> None:
        with suppress(OSError):
            request.shutdown(socket.SHUT_RDWR)
        self.close_request(request)


@contextmanager
def scripted(tls: ssl.SSLContext | None = None) -> Iterator[Scripted]:
    server = _Server(("127.0.0.1", 0), Asked)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    server.scripted = Scripted(server.server_address[1], tls is not None)
    thread = Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server.scripted
    finally:
        server.scripted.ending.set()
        server.shutdown()
        server.server_close()
        thread.join()
