"""Clients of every kind at once; each of them notices every failed request."""

import hashlib
import os
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import attrs

from tests.real.client import Client, receive

REST = 0.01
"""Seconds between two requests of a busy client: it leaves the service time to do other things."""
LIVELY = 120.0
"""Seconds that `is_lively` may take on a busy machine."""
SHOW = b"GET /v2/images/%s HTTP/1.1\r\nHost: localhost\r\n\r\n"


@attrs.define
class Load:
    """What happens to the clients; they go on until `stop`."""

    client: Client
    stop: threading.Event = attrs.field(factory=threading.Event)
    done: dict[str, int] = attrs.field(factory=dict)
    """Requests that went well, by kind of client."""
    failures: list[str] = attrs.field(factory=list)
    kinds: int = 0
    """How many kinds of clients there are."""

    def went_well(self, kind: str) -> None:
        self.done[kind] = self.done.get(kind, 0) + 1

    def is_lively(self) -> bool:
        """Tell whether every kind of client has had more than a few answers."""
        return len(self.done) == self.kinds and min(self.done.values()) > 10

    def repeat(self, kind: str, act: Callable[[], None]) -> None:
        while not self.stop.is_set():
            try:
                act()
            except Exception as error:  # whatever it is, the client was let down
                self.failures.append(f"{kind}: {type(error).__name__}: {error}")
            else:
                self.went_well(kind)
            self.stop.wait(REST)


@contextmanager
def load(client: Client, image_id: str, pause: float = 0.7, transfers: int = 1) -> Iterator[Load]:
    """Let clients come, stay and go while the block runs; `image_id` is of an image with data.

    Those that stay are busy, or idle for up to `pause` seconds between two requests.
    """
    state = Load(client)
    data = os.urandom(3 << 20)
    kept = client.active(data)

    def come_and_go() -> None:
        assert client.get(f"/v2/images/{image_id}").status == 200

    def download() -> None:
        assert client.download(kept).body == data

    def upload() -> None:
        created = client.create()
        assert client.upload(created, slowly(data)).status == 204
        assert client.show(created)["checksum"] == hashlib.md5(data).hexdigest()

    kinds: list[tuple[str, Callable[[], None]]] = [("come and go", come_and_go)]
    kinds += [("download", download)] * transfers
    kinds += [("upload", upload)] * transfers
    stays = [Stay(client, image_id, rest) for rest in (0.0, pause, pause, pause)]
    kinds += [("idle" if stay.rest else "busy", stay) for stay in stays]
    state.kinds = len({kind for kind, _ in kinds})
    threads = [threading.Thread(target=state.repeat, args=kind) for kind in kinds]
    for thread in threads:
        thread.start()
    try:
        yield state
    finally:
        state.stop.set()
        for thread in threads:
            thread.join()
        for stay in stays:
            stay.close()


def slowly(data: bytes) -> Iterator[bytes]:
    for start in range(0, len(data), 1 << 20):
        yield data[start : start + (1 << 20)]
        time.sleep(0.05)


class Stay:
    """A client that keeps its connection, and counts each request without an answer as failed."""

    def __init__(self, client: Client, image_id: str, rest: float) -> None:
        self._client = client
        self._request = SHOW % image_id.encode()
        self.rest = rest
        self._connection: socket.socket | None = None

    def __call__(self) -> None:
        if self._connection is None:
            self._connection = self._client.connect()
        try:
            self._connection.sendall(self._request)
            reply = receive(self._connection)
            assert reply.status == 200, reply
        except BaseException:
            self.close()
            raise
        if reply.headers.get("connection") == "close":
            self.close()
        time.sleep(random.uniform(0, self.rest))

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
