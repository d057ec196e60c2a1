"""A closed loop of small requests over many connections, from one thread."""

import selectors
import socket
import time
from collections import Counter
from collections.abc import Iterator

import attrs

from bench.address import Address, Head, parse_head
from bench.errors import Wrong


@attrs.define
class Outcome:
    """What came back: `latencies` in seconds, `bodies` in the order of arrival."""

    seconds: float = 0.0
    cpu_seconds: float = 0.0
    latencies: list[float] = attrs.Factory(list)
    statuses: Counter[int] = attrs.Factory(Counter)
    bodies: list[bytes] = attrs.Factory(list)

    @property
    def rate(self) -> float:
        """Answers per second."""
        return len(self.latencies) / self.seconds

    @property
    def client_bound(self) -> bool:
        """Whether the client, not the server, may have set the rate."""
        return self.cpu_seconds > 0.8 * self.seconds


def until(deadline: float, request: bytes) -> Iterator[bytes]:
    """Repeat one request until `time.monotonic()` reaches the deadline."""
    while time.monotonic() < deadline:
        yield request


def hammer(address: Address, requests: Iterator[bytes], connections: int) -> Outcome:
    """Send every request, the next one on a connection once the last one there was answered.

    Connections are kept when the server keeps them, and opened anew when it does not.
    """
    outcome = Outcome()
    begin, cpu_begin = time.monotonic(), time.thread_time()
    with selectors.EpollSelector() as selector:
        opened = [_Connection(address, selector) for _ in range(connections)]
        try:
            _drive(opened, requests, selector, outcome)
        finally:
            for connection in opened:
                connection.close()
    outcome.seconds = time.monotonic() - begin
    outcome.cpu_seconds = time.thread_time() - cpu_begin
    return outcome


def percentile(latencies: list[float], part: float) -> float:
    """Return the value that `part` (0 to 1) of the latencies do not exceed."""
    ordered = sorted(latencies)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]


class _Connection:
    """One connection, with at most one request on its way."""

    def __init__(self, address: Address, selector: selectors.EpollSelector) -> None:
        self._address = address
        self._selector = selector
        self._connection: socket.socket | None = None
        self._data = b""
        self._asked_at = 0.0

    def ask(self, request: bytes) -> None:
        self._asked_at = time.monotonic()
        self._data = b""
        if self._connection is None:
            self._connection = self._address.connect()
            self._selector.register(self._connection, selectors.EVENT_READ, self)
        self._connection.sendall(request)

    def answer(self) -> Head | None:
        """Read what is there; return the answer (`rest` is its body) once it is complete."""
        assert self._connection is not None
        more = self._connection.recv(65536)
        if not more:
            raise Wrong(f"the connection was closed instead of an answer: {self._data[:60]!r}")
        self._data += more
        head = parse_head(self._data)
        if head is None or len(head.rest) < head.length:
            return None
        if not head.keeps_alive:
            self.close()
        return head

    @property
    def waited(self) -> float:
        return time.monotonic() - self._asked_at

    def close(self) -> None:
        if self._connection is not None:
            self._selector.unregister(self._connection)
            self._connection.close()
            self._connection = None


def _drive(
    opened: list[_Connection],
    requests: Iterator[bytes],
    selector: selectors.EpollSelector,
    outcome: Outcome,
) -> None:
    busy = 0
    for connection, request in zip(opened, requests, strict=False):
        connection.ask(request)
        busy += 1
    while busy:
        for key, _ in selector.select():
            connection = key.data
            head = connection.answer()
            if head is None:
                continue
            outcome.latencies.append(connection.waited)
            outcome.statuses[head.status] += 1
            outcome.bodies.append(head.rest)
            following = next(requests, None)
            if following is None:
                busy -= 1
            else:
                connection.ask(following)
