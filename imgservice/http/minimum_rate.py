"""Clients that are slower than anybody is who wants something, by what the kernel knows of them."""

import socket
import struct

import attrs

LOOKS = 12
"""How often a connection is looked at in the time over which its rate is measured."""

_TCP_INFO = struct.Struct("=24xI92xQQ8xI")
"""tcpi_unacked, tcpi_bytes_acked, tcpi_bytes_received and tcpi_notsent_bytes of struct tcp_info."""


@attrs.frozen
class MinimumRate:
    """So many bytes a second are expected, on the average of so many seconds."""

    per_second: float = 100.0
    over: float = 120.0


@attrs.frozen
class Counters:
    """What the kernel knows of a TCP connection."""

    received: int
    """Bytes that came, whether or not we have read them."""
    taken: int
    """Bytes that the client has acknowledged."""
    waiting: bool
    """Whether there are bytes that it has not."""

    @classmethod
    def of(cls, connection: socket.socket) -> "Counters | None":
        """Ask the kernel; None where it does not say, as of a Unix socket."""
        try:
            info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size)
            unacknowledged, taken, received, unsent = _TCP_INFO.unpack(info)
        except (OSError, struct.error):
            return None
        return cls(received, taken, bool(unacknowledged or unsent))


class _Flow:
    """One direction, measured while it is the client's turn and at no other time."""

    def __init__(self) -> None:
        self._is_due = False
        self._looked_at = 0.0
        self._total = 0
        self._waited = 0.0
        self._moved = 0

    def is_too_slow(self, now: float, total: int, is_due: bool, least: MinimumRate) -> bool:
        if is_due and self._is_due:
            self._waited += now - self._looked_at
            self._moved += total - self._total
        self._is_due, self._looked_at, self._total = is_due, now, total
        if self._waited < least.over:
            return False
        too_slow = self._moved < least.per_second * self._waited
        self._waited, self._moved = 0.0, 0
        return too_slow


class Slowness:
    """One connection that has something under way.

    The rate of an answer is that of the client's acknowledgements, and what we have not handed to
    the kernel yet does not count: neither a slow store nor a limited rate makes a client slow. That
    of a body counts while we read it, and not in a look during which we stopped at any time.
    """

    def __init__(self, least: MinimumRate) -> None:
        self._least = least
        self._in = _Flow()
        self._out = _Flow()
        self._look_at = 0.0

    def is_due(self, now: float) -> bool:
        """Tell whether it is time for a look."""
        if now < self._look_at:
            return False
        self._look_at = now + self._least.over / LOOKS
        return True

    def reads_too_slowly(self, now: float, counters: Counters) -> bool:
        return self._out.is_too_slow(now, counters.taken, counters.waiting, self._least)

    def sends_too_slowly(self, now: float, counters: Counters, must_send: bool) -> bool:
        return self._in.is_too_slow(now, counters.received, must_send, self._least)
