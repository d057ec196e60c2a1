"""A proxy that authenticates, as one would stand in front of the service: one identity a port.

The openstack command takes it for the identity service as well, and looks projects up there. As
Keystone does to users who may not list them, it forbids that: the command goes on with the id.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import attrs

from tests.real.client import Client
from tests.real.roles import identity

_HOP = ("connection", "transfer-encoding", "content-length", "host")


class _Handler(BaseHTTPRequestHandler):
    service: Client
    identity: Mapping[str, str]

    def forward(self) -> None:
        if self.path.startswith("/v2/tenants"):
            self._answer(403, {}, b"")
            return
        length = int(self.headers.get("Content-Length", 0))
        body = self.rfile.read(length) if length else None
        kept = {n: value for n, value in self.headers.items() if n.lower() not in _HOP}
        reply = self.service.request(self.command, self.path, body, {**kept, **self.identity})
        self._answer(reply.status, reply.headers, reply.body)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = forward

    def _answer(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            if name not in _HOP:
                self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Leave the test's output alone."""


@contextmanager
def gateway(service: Client, project: str, roles: str = "member,reader") -> Iterator[str]:
    """Let everybody who comes be of this project, with these roles; yield the URL."""
    fields = {"service": attrs.evolve(service), "identity": identity(project, roles)}
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), fields))
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
