"""The framework without a service: a Klein app that answers every request at once.

Run as `python klein_hello.py PORT [MODULE...]`; it imports the modules first. A GET is answered
with what was PUT last, a POST or PATCH with something that looks like an image.
"""

import importlib
import sys
from typing import Any

from klein import Klein
from twisted.web import server

# Twisted's request, site and reactor have no types that mypy could check without a plugin.
Untyped = Any

LOOPBACK = "127.0.0.1"
IMAGE = b'{"id": "00000000-0000-0000-0000-000000000000", "name": "%s"}' % (b"x" * 700)
STATUSES = {b"POST": 201, b"PUT": 201, b"DELETE": 204}


class Hello:
    """The app, with the one document that it keeps."""

    app = Klein()

    def __init__(self) -> None:
        self._document = b""

    @app.route("/", branch=True)
    def answer(self, request: Untyped) -> bytes:
        """Answer any method and path."""
        method: bytes = request.method
        request.setResponseCode(STATUSES.get(method, 200))
        request.setHeader(b"content-type", b"application/json")
        if method == b"PUT":
            self._document = request.content.read()
        body = {b"GET": self._document, b"POST": IMAGE, b"PATCH": IMAGE}.get(method, b"")
        # Else Twisted would send it in chunks.
        request.setHeader(b"content-length", b"%d" % len(body))
        return body


def main(port: int, modules: list[str]) -> None:
    """Serve until SIGTERM."""
    for module in modules:
        importlib.import_module(module)
    # Importing it installs it: the epoll reactor, as for every Twisted service on Linux.
    from twisted.internet import reactor

    twisted_web: Untyped = server
    site = twisted_web.Site(Hello().app.resource())
    site.log = lambda request: None
    main_loop: Untyped = reactor
    main_loop.listenTCP(port, site, backlog=4096, interface=LOOPBACK)
    main_loop.run()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
