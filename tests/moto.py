"""A server of S3 that keeps everything in memory: moto's, in a process of its own.

It is the second one beside Swift, whose answers differ in many details. It checks no signatures.
"""

import atexit
import os
import re
import ssl
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import count
from pathlib import Path
from urllib.request import Request, urlopen

SMALLEST_PART = 1 << 20
"""Of a multipart upload; S3 itself has 5 MiB, which takes longer."""
SERVE = """
import sys
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server
WSGIRequestHandler.protocol_version = "HTTP/1.1"
application = DomainDispatcherApplication(create_backend_app)
tls = tuple(sys.argv[1:]) or None
server = make_server("127.0.0.1", 0, application, threaded=True, ssl_context=tls)
print(server.server_port, flush=True)
server.serve_forever()
"""


class Moto:
    """A server that was started."""

    def __init__(self, tls: Sequence[Path] = ()) -> None:
        """`tls` are the files of a certificate, which clients are to trust, and of its key."""
        self.process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", SERVE, *tls],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            env={**os.environ, "S3_UPLOAD_PART_MIN_SIZE": str(SMALLEST_PART)},
        )
        assert self.process.stdout is not None
        scheme = "https" if tls else "http"
        self.url = f"{scheme}://127.0.0.1:{int(self.process.stdout.readline())}"
        self._tls = ssl.create_default_context(cafile=tls[0]) if tls else None
        self._numbers = count(1)

    def bucket(self) -> str:
        """Make an empty bucket and return its name."""
        name = f"bucket-{next(self._numbers)}"
        self._ask("PUT", f"/{name}")
        return name

    def objects(self, bucket: str) -> list[str]:
        """Return the keys of all its objects, and of unfinished uploads to it."""
        return [
            re.sub("</?Key>", "", found)
            for query in ("list-type=2", "uploads")
            for found in re.findall("<Key>.*?</Key>", self._ask("GET", f"/{bucket}?{query}"))
        ]

    def _ask(self, method: str, path: str) -> str:
        request = Request(self.url + path, method=method)
        with urlopen(request, context=self._tls) as answer:
            text: bytes = answer.read()
        return text.decode()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()


@contextmanager
def started(tls: Sequence[Path] = ()) -> Iterator[Moto]:
    """Run a server while the block runs."""
    made = Moto(tls)
    try:
        yield made
    finally:
        made.kill()


@cache
def shared() -> Moto:
    """Return the server that the tests of this process share."""
    made = Moto()
    atexit.register(made.kill)
    return made
