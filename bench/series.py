"""One client that asks the same thing again and again, and waits for each answer."""

import socket
import time

import attrs

from bench.address import Address, read_head
from bench.errors import Wrong
from bench.hammer import percentile

LEAST = 5
MOST_SECONDS = 10.0


@attrs.define
class Series:
    """Latencies in seconds."""

    latencies: list[float] = attrs.Factory(list)

    def part(self, part: float) -> float:
        """Return the latency that `part` (0 to 1) of the answers do not exceed."""
        return percentile(self.latencies, part)


class Client:
    """Keeps its connection when the server does; the time to open a new one counts."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._connection: socket.socket | None = None

    def get(self, path: str) -> bytes:
        """Return the body of the answer; `Wrong` when it is not a 200."""
        if self._connection is None:
            self._connection = self._address.connect()
        self._connection.sendall(self._address.request("GET", path))
        head = read_head(self._connection)
        body = self._read(self._connection, head.rest, head.length)
        if not head.keeps_alive:
            self.close()
        if head.status != 200:
            raise Wrong(f"GET {path} was answered {head.status} {body[:200]!r}")
        return body

    def series(self, path: str, seconds: float) -> Series:
        """Ask for `seconds`, and at least five times if that takes no more than ten seconds."""
        found = Series()
        begin = now = time.monotonic()
        while now < begin + seconds or (
            len(found.latencies) < LEAST and now < begin + MOST_SECONDS
        ):
            self.get(path)
            asked_at, now = now, time.monotonic()
            found.latencies.append(now - asked_at)
        return found

    def close(self) -> None:
        """Close the connection, if there is one; the next request opens another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _read(self, connection: socket.socket, begin: bytes, length: int) -> bytes:
        parts, missing = [begin], length - len(begin)
        while missing > 0:
            parts.append(connection.recv(1 << 20))
            if not parts[-1]:
                raise Wrong(f"an answer ended {missing} bytes too early")
            missing -= len(parts[-1])
        return b"".join(parts)
