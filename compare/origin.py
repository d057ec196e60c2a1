"""A web server with the data that locations name."""

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

DATA = {
    "/disk.raw": b"0123456789",
    "/copy.raw": b"0123456789",
    "/other.raw": b"9876543210",
    "/small.raw": b"01234",
    "/large.raw": b"0123456789" * 3,
    "/disk.qcow2": b"QFI\xfb\x00\x00\x00\x03" + bytes(504),
    "/empty.raw": b"",
}
REDIRECTS = {"/moved.raw": "/disk.raw", "/round.raw": "/round.raw"}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        status, headers, data = self._answer()
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    do_HEAD = do_GET

    def _answer(self) -> tuple[int, dict[str, str], bytes]:
        if self.path in REDIRECTS:
            there = f"http://{self.headers['Host']}{REDIRECTS[self.path]}"
            return 302, {"Location": there}, b""
        if self.path not in DATA:
            return 404, {}, b"nothing here"
        return 200, {}, DATA[self.path]

    def log_message(self, format: str, *args: Any) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Some clients only want to know the size, and disconnect."""


@contextmanager
def origin(host: str = "127.0.0.1", port: int = 0) -> Iterator[str]:
    """Run it while the block runs, and tell its URL; port 0 is any that is free."""
    server = _Server((host, port), _Handler)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://{host}:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
