"""A web server that does what a test tells it to, and remembers what it was asked."""

import re
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from time import sleep
from typing import Any

import attrs


@attrs.frozen
class Page:
    """What lies under one path."""

    data: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = attrs.field(factory=dict)
    ranges: bool = True
    """Whether Range is understood."""
    head: bool = True
    """Whether HEAD is."""
    told: int | None = None
    """The length that HEAD is told, when it is not the true one."""
    cut: int = 0
    """How many bytes are kept back before the connection is closed."""


@attrs.frozen
class Asked:
    method: str
    path: str
    headers: Mapping[str, str]


@attrs.define
class Origin:
    """Runs on 127.0.0.1, or on ::1, until the block of `origin` ends."""

    port: int
    tls: bool = False
    pages: dict[str, Page] = attrs.field(factory=dict)
    asked: list[Asked] = attrs.field(factory=list)
    pause: float = 0.0
    """Seconds between two pieces of data."""
    piece: int = 1 << 20
    sent: int = 0
    """Bytes of data that were written, for all who asked."""

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        return f"{'https' if self.tls else 'http'}://{host}:{self.port}{path}"

    def put(self, path: str, data: bytes, **more: Any) -> str:
        """Lay the data there, and return its URL."""
        self.pages[path] = Page(data, **more)
        return self.url(path)

    def redirect(self, path: str, to: str, status: int = 302) -> str:
        return self.put(path, b"elsewhere", status=status, headers={"Location": to})


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "_Server"

    def do_GET(self) -> None:
        page = self._page()
        if self.command == "HEAD" and not page.head:
            page = Page(status=405)
        status, headers, data = _answer(page, self.headers.get("Range"))
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if "Transfer-Encoding" not in headers:
            told = page.told if self.command == "HEAD" else None
            self.send_header("Content-Length", str(len(data) if told is None else told))
        self.end_headers()
        if self.command != "HEAD":
            self._write(data[: len(data) - page.cut])
        self.close_connection = self.close_connection or page.cut > 0

    do_HEAD = do_DELETE = do_PUT = do_GET

    def _write(self, data: bytes) -> None:
        origin = self.server.origin
        for start in range(0, len(data), origin.piece):
            piece = data[start : start + origin.piece]
            self.wfile.write(piece)
            origin.sent += len(piece)
            sleep(origin.pause)

    def _page(self) -> Page:
        origin = self.server.origin
        origin.asked.append(Asked(self.command, self.path, dict(self.headers)))
        return origin.pages.get(self.path, Page(b"nothing here", status=404))

    def log_message(self, format: str, *args: Any) -> None:
        pass


def _answer(page: Page, wanted: str | None) -> tuple[int, dict[str, str], bytes]:
    headers, total = dict(page.headers), len(page.data)
    matched = re.fullmatch(r"bytes=(\d+)-(\d*)", wanted or "")
    if matched is None or not page.ranges or page.status != 200:
        return page.status, headers, page.data
    start, last = int(matched[1]), min(int(matched[2] or total), total - 1)
    if start > last:
        return 416, {**headers, "Content-Range": f"bytes */{total}"}, b""
    return (
        206,
        {**headers, "Content-Range": f"bytes {start}-{last}/{total}"},
        (page.data[start : last + 1]),
    )


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    origin: Origin

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that leaves in the middle is what some tests are about."""


@contextmanager
def origin(tls: ssl.SSLContext | None = None) -> Iterator[Origin]:
    server = _Server(("127.0.0.1", 0), _Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    server.origin = Origin(server.server_address[1], tls is not None)
    thread = Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server.origin
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
