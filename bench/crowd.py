"""Many clients that read slowly."""

import socket
import time
from threading import Event

from bench.address import Address

TICK_SECONDS = 0.05
BUFFER = 128 * 1024
# A client counts as served when it got this part of what it was ready to take.
SERVED_PART = 0.9


class Crowd:
    """`count` clients which each read the same file at `per_second` bytes a second."""

    def __init__(self, address: Address, path: str, count: int, per_second: int) -> None:
        self._readers = [_Reader(address, path) for _ in range(count)]
        self._per_second = per_second
        self.seconds = 0.0

    def run(self, ending: Event) -> None:
        """Read until the event is set. Never waits for one client while others could read."""
        begin = time.monotonic()
        while not ending.wait(TICK_SECONDS):
            self.seconds = time.monotonic() - begin
            for reader in self._readers:
                reader.read_up_to(int(self.seconds * self._per_second))
        for reader in self._readers:
            reader.close()

    @property
    def served(self) -> int:
        """How many clients received their bytes at their rate."""
        wanted = SERVED_PART * self.seconds * self._per_second
        return sum(reader.received >= wanted for reader in self._readers)

    @property
    def rate(self) -> float:
        """Bytes a second of all clients together."""
        return sum(reader.received for reader in self._readers) / self.seconds


class _Reader:
    """A client that has sent its request as soon as the server accepted it."""

    def __init__(self, address: Address, path: str) -> None:
        self.received = 0
        self._request = address.request("GET", path)
        self._asked = False
        self._connection = socket.socket()
        # A small window, or the kernel would take in the file faster than the client reads.
        self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
        self._connection.setblocking(False)
        self._connection.connect_ex((address.host, address.port))

    def read_up_to(self, allowance: int) -> None:
        """Take what is there, as long as no more than the allowance was received in all."""
        try:
            if not self._asked:
                self._connection.send(self._request)
                self._asked = True
            wanted = min(BUFFER, allowance - self.received)
            if wanted > 0:
                self.received += self._drop(wanted)
        except OSError:
            # Not connected yet, nothing there yet, or refused: not served, and counted so.
            return

    def close(self) -> None:
        self._connection.close()

    def _drop(self, count: int) -> int:
        return len(self._connection.recv(count, socket.MSG_TRUNC))
