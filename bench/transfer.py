"""Uploads and downloads whose own cost is next to nothing."""

import contextlib
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from bench.address import Address, Head, read_head
from bench.errors import Wrong
from bench.payload import Payload
from bench.units import MIB

STORED = (200, 201, 204)


class Digest(Protocol):
    """What hashlib returns."""

    def update(self, data: memoryview | bytes, /) -> None:
        """Take in more bytes."""


def upload(address: Address, path: str, payload: Payload, size: int) -> None:
    """PUT `size` bytes; `Wrong` when the server does not say that it has them."""
    request = address.request(
        "PUT", path, Content_Type="application/octet-stream", Content_Length=str(size)
    )
    with address.connect() as connection:
        connection.sendall(request)
        # A server may refuse before it has read everything: the answer then says why.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            _send(connection, payload, size)
        head = read_head(connection)
    if head.status not in STORED:
        raise Wrong(f"PUT {path} was answered {head.status} {head.rest[:200]!r}")


def download(address: Address, path: str, size: int, digest: Digest | None = None) -> None:
    """GET `size` bytes and drop them in the kernel, unless `digest` wants to see them."""
    with address.connect() as connection:
        connection.sendall(address.request("GET", path))
        head = read_head(connection)
        _check(head, path, size)
        if digest:
            digest.update(head.rest)
        received = len(head.rest) + _receive(connection, size - len(head.rest), digest)
    if received != size:
        raise Wrong(f"GET {path} ended after {received} of {size} bytes")


def together(jobs: Sequence[Callable[[], None]]) -> float:
    """Run the jobs in threads; return the seconds until the last one ended, or raise the first
    error. The threads are daemons: an interrupt does not wait for them."""
    errors: list[Exception] = []

    def run(job: Callable[[], None]) -> None:
        try:
            job()
        except (OSError, Wrong) as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(job,), daemon=True) for job in jobs]
    begin = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return time.monotonic() - begin


def _check(head: Head, path: str, size: int) -> None:
    if head.status != 200:
        raise Wrong(f"GET {path} was answered {head.status} {head.rest[:200]!r}")
    if head.length != size:
        raise Wrong(f"GET {path} announced {head.length} bytes, not {size}")


def _send(connection: socket.socket, payload: Payload, size: int) -> None:
    if isinstance(connection, ssl.SSLSocket):
        for block in payload.blocks(size):
            connection.sendall(block)
        return
    for offset, length in payload.pieces(size):
        end = offset + length
        while offset < end:
            offset += os.sendfile(connection.fileno(), payload.descriptor, offset, end - offset)


def _receive(connection: socket.socket, size: int, digest: Digest | None) -> int:
    """Return how many of `size` bytes came. MSG_TRUNC makes the kernel forget them uncopied."""
    buffer = memoryview(bytearray(MIB))
    plain = not isinstance(connection, ssl.SSLSocket)
    flags = socket.MSG_TRUNC if plain and digest is None else 0
    received = 0
    while received < size:
        count = connection.recv_into(buffer, min(MIB, size - received), flags)
        if not count:
            break
        if digest:
            digest.update(buffer[:count])
        received += count
    return received
