"""Large bodies that cost the test neither memory nor much time: sent and dropped by the kernel."""

import os
import random
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

import attrs

from tests.real.client import Client

PIECE = 64 << 20


@attrs.frozen
class Data:
    """Data of any length, the same each time: one piece of random bytes, over and over."""

    piece: BinaryIO
    length: int

    def send(self, connection: socket.socket, chunked: bool = False) -> None:
        for _ in range(self.length // PIECE):
            if chunked:
                connection.sendall(b"%x\r\n" % PIECE)
            connection.sendfile(self.piece)
            if chunked:
                connection.sendall(b"\r\n")
        if chunked:
            connection.sendall(b"0\r\n\r\n")


@contextmanager
def data(length: int) -> Iterator[Data]:
    with os.fdopen(os.memfd_create("image"), "w+b") as piece:
        piece.write(random.Random(0).randbytes(1 << 20) * (PIECE >> 20))
        piece.flush()
        yield Data(piece, length)


def upload_head(image_id: str, *fields: str) -> bytes:
    """Return the head of an upload request; `fields` are further header lines."""
    lines = (
        f"PUT /v2/images/{image_id}/file HTTP/1.1",
        "Host: localhost",
        "Content-Type: application/octet-stream",
        *fields,
    )
    return "\r\n".join([*lines, "", ""]).encode()


def begin_download(client: Client, image_id: str, buffer: int = 0) -> socket.socket:
    """Ask for the data and read the head of the answer, not a byte more; the caller closes."""
    connection = socket.socket()
    if buffer:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    connection.connect((client.host, client.port))
    connection.sendall(
        f"GET /v2/images/{image_id}/file HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    )
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += connection.recv(1)
    assert head.startswith(b"HTTP/1.1 200"), head
    return connection


def drop(connection: socket.socket, length: int, buffer: bytearray) -> int:
    """Take up to `length` bytes from the connection and throw them away; 0 at its end."""
    return connection.recv_into(buffer, min(length, len(buffer)), socket.MSG_TRUNC)
