"""Finds clients that send or read more slowly than the minimum rate, by the kernel's counters."""

import socket
import struct

import attrs

CHECKS = 12
"""How often a connection is checked in the time over which its rate is measured."""

_TCP_INFO = struct.Struct("=24xI92xQQ8xI")
"""tcpi_unacked, tcpi_bytes_acked, tcpi_bytes_received and tcpi_notsent_bytes of struct tcp_info."""


@attrs.frozen
class MinimumRate:
    """The bytes per second that a client must send or read, averaged over a time in seconds."""

    per_second: float = 100.0
    over: float = 120.0


@attrs.frozen
class Counters:
    """The kernel's counters of a TCP connection."""

    received: int
    """Bytes received, whether or not we have read them."""
    taken: int
    """Bytes that the client has acknowledged."""
    waiting: bool
    """Whether some bytes are not acknowledged yet."""

    @classmethod
    def of(cls, connection: socket.socket) -> "Counters | None":
        """Ask the kernel; None where it has no such counters, as for a Unix socket."""
        try:
            info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size)
            unacknowledged, taken, received, unsent = _TCP_INFO.unpack(info)
        except (OSError, struct.error):
            return None
        return cls(received, taken, bool(unacknowledged or unsent))


class _Flow:
    """One direction, measured only while the client is the one to act."""

    def __init__(self) -> None:
        self._is_due = False
        self._checked_at = 0.0
        self._total = 0
        self._waited = 0.0
        self._moved = 0

    def is_too_slow(self, now: float, total: int, is_due: bool, least: MinimumRate) -> bool:
        if is_due and self._is_due:
            self._waited += now - self._checked_at
            self._moved += total - self._total
        self._is_due, self._checked_at, self._total = is_due, now, total
        if self._waited < least.over:
            return False
        too_slow = self._moved < least.per_second * self._waited
        self._waited, self._moved = 0.0, 0
        return too_slow


class Slowness:
    """Measures one connection on which a request is under way.

    Answers are measured by the client's acknowledgements of what the kernel was given, so that
    neither a slow store nor a throttle makes a client slow. Bodies are measured while we read
    them: a period in which reading was paused does not count.
    """

    def __init__(self, least: MinimumRate) -> None:
        self._least = least
        self._in = _Flow()
        self._out = _Flow()
        self._check_at = 0.0

    def is_due(self, now: float) -> bool:
        """Tell whether it is time for a check."""
        if now < self._check_at:
            return False
        self._check_at = now + self._least.over / CHECKS
        return True

    def reads_too_slowly(self, now: float, counters: Counters) -> bool:
        return self._out.is_too_slow(now, counters.taken, counters.waiting, self._least)

    def sends_too_slowly(self, now: float, counters: Counters, must_send: bool) -> bool:
        return self._in.is_too_slow(now, counters.received, must_send, self._least)
