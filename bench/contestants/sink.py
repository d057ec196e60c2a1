"""A raw socket that takes in what is PUT: the limit of an upload.

Run as `python sink.py PORT MODE FOLDER [CERTIFICATE KEY]`. MODE `drop` forgets
the bytes; `keep` writes them to a file in FOLDER and hashes them, md5 and sha512 in a thread each,
which is the least that a service with checksums does.
"""

import hashlib
import queue
import re
import socket
import socketserver
import ssl
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

LOOPBACK = "127.0.0.1"
BLOCK = 1 << 20
WINDOW = 4
# While a block is filled, WINDOW others wait in a queue and one more is being hashed.
BUFFERS = WINDOW + 2


class Sink(socketserver.ThreadingTCPServer):
    """One thread per connection, one request per connection."""

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 64

    def __init__(self, port: int, mode: str, folder: Path, context: ssl.SSLContext | None) -> None:
        super().__init__((LOOPBACK, port), Connection)
        self.keeps = mode == "keep"
        self.folder = folder
        self.context = context


class Connection(socketserver.BaseRequestHandler):
    """Speaks as much HTTP as the benchmark's own client needs."""

    server: Sink
    request: socket.socket

    def setup(self) -> None:
        """Start TLS here, in the connection's own thread."""
        if self.server.context:
            self.request = self.server.context.wrap_socket(self.request, server_side=True)

    def handle(self) -> None:
        """Answer 204 to everything."""
        method, path, length, rest = self._head()
        file = self.server.folder / path.lstrip("/")
        if method == "DELETE":
            file.unlink(missing_ok=True)
        elif method == "PUT" and self.server.keeps:
            self._keep(file, length, rest)
        else:
            for _ in self._blocks(length, rest):
                pass
        self.request.sendall(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")

    def _head(self) -> tuple[str, str, int, bytes]:
        data = b""
        while b"\r\n\r\n" not in data and (more := self.request.recv(65536)):
            data += more
        head, _, rest = data.partition(b"\r\n\r\n")
        method, path, _ = head.decode().split(" ", 2)
        length = re.search(rb"(?i)\ncontent-length: *(\d+)", head)
        return method, path, int(length[1]) if length else 0, rest

    def _keep(self, file: Path, length: int, rest: bytes) -> None:
        with ExitStack() as stack:
            output = stack.enter_context(file.open("wb", buffering=0))
            takers = [stack.enter_context(_in_thread(hashlib.md5().update))]
            takers.append(stack.enter_context(_in_thread(hashlib.sha512().update)))
            for block in self._blocks(length, rest):
                for take in takers:
                    take(block)
                output.write(block)

    def _blocks(self, length: int, rest: bytes) -> Iterator[memoryview]:
        """Yield the body in buffers that are used again and again."""
        buffers = [memoryview(bytearray(BLOCK)) for _ in range(BUFFERS)]
        yield memoryview(rest)
        left, turn = length - len(rest), 0
        while left > 0:
            buffer = buffers[turn % BUFFERS]
            count = self._fill(buffer[: min(BLOCK, left)])
            yield buffer[:count]
            left, turn = left - count, turn + 1

    def _fill(self, buffer: memoryview) -> int:
        filled = 0
        while filled < len(buffer):
            count = self.request.recv_into(buffer[filled:])
            if not count:
                raise ConnectionError("the client went away")
            filled += count
        return filled


@contextmanager
def _in_thread(work: Callable[[memoryview], object]) -> Iterator[Callable[[memoryview], None]]:
    """Return what hands a block to `work` in a thread of its own; wait for the last one."""
    waiting: queue.Queue[memoryview | None] = queue.Queue(WINDOW)

    def run() -> None:
        while (block := waiting.get()) is not None:
            work(block)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield waiting.put
    finally:
        waiting.put(None)
        thread.join()


def main(port: int, mode: str, folder: Path, pem: list[str]) -> None:
    """Serve until SIGTERM."""
    context = None
    if pem:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*pem)
    with Sink(port, mode, folder, context) as sink:
        sink.serve_forever()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), sys.argv[4:])
