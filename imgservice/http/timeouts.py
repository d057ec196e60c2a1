"""The timeouts of connections, and how a connection ends when one expires."""

from collections.abc import Callable, Collection
from typing import Any, Protocol

from twisted.logger import Logger
from twisted.web.http import HTTPChannel

from imgservice.concurrency.reactor import Clock, looping_call
from imgservice.http.connection_limits import ConnectionLimits
from imgservice.http.limits import ServerLimits
from imgservice.http.minimum_rate import Counters, MinimumRate, Slowness
from imgservice.http.request import StreamingRequest
from imgservice.http.transport import PushProducer, SocketTransport, Transport

_log = Logger()


class TimedSite(Protocol):
    """The site, as timeouts see it; connections have its `idle_timeout` as `timeOut`."""

    @property
    def limits(self) -> ServerLimits: ...

    @property
    def connection_limits(self) -> ConnectionLimits: ...

    @property
    def seconds(self) -> Callable[[], float]: ...


class TimedChannel(HTTPChannel):
    """A connection with timeouts, which a `Sweeper` checks.

    It ends in one of three ways: closed once everything is sent (`loseConnection`), closed on our
    side while the client is still sending (`_leave` of the subclass), or reset so that the client
    sees an error (`abort`).
    """

    site: TimedSite
    # Twisted's own annotations name interfaces of zope.interface, which have no types.
    transport: Transport  # type: ignore[assignment]
    timeOut: float  # type: ignore[assignment]
    requests: list[StreamingRequest]
    _networkProducer: PushProducer  # type: ignore[assignment]
    _leaving = False
    _period: float | None = None
    _touched = 0.0
    _unsent = 0
    _headers_since: float | None = None
    _linger_until: float | None = None
    _slowness: Slowness | None = None
    _was_paused = False

    def connectionMade(self) -> None:
        super().connectionMade()
        # Until the first request: a TLS handshake that takes long does not show here.
        self.setTimeout(min(self.timeOut, self.site.limits.header_timeout))
        innermost: Any = self.transport
        while hasattr(innermost, "wrappedProtocol"):  # TLS
            innermost = innermost.transport
        self.socket_transport: SocketTransport = innermost

    # -- the end ----------------------------------------------------------------------------------

    def loseConnection(self) -> None:
        """Close once everything is sent."""
        self._begin_leaving()
        if self.isSecure():  # the client's close_notify, or its end, is still to be read
            self._networkProducer.resumeProducing()
        super().loseConnection()

    def _begin_leaving(self) -> None:
        self._leaving = True
        self._linger_until = self.site.seconds() + self.site.limits.linger_time
        self.resetTimeout()

    def abort(self) -> None:
        """End the connection at once, so that the client sees an error."""
        self.transport.abortConnection()

    def timeoutConnection(self) -> None:
        """Close an idle connection; abort one whose client stopped in the middle of a request."""
        if self.requests and self._headers_since is None:
            self.abort()
        else:
            self.loseConnection()

    # -- timeouts ---------------------------------------------------------------------------------

    def setTimeout(self, period: float | None) -> float | None:
        previous, self._period = self._period, period
        if period is None:
            self._was_paused = True
        self._touched = self.site.seconds()
        return previous

    def resetTimeout(self) -> None:
        self._touched = self.site.seconds()

    @property
    def is_idle(self) -> bool:
        """Whether no request is under way, nor the beginning of one."""
        return not self.requests and self._headers_since is None

    @property
    def idle_time(self) -> float:
        """Seconds since the last activity."""
        return self.site.seconds() - self._touched

    def check_timeouts(self, now: float) -> None:
        """End the connection if one of its timeouts has expired."""
        self._notice_sending(now)
        lingers_too_long = self._linger_until is not None and now > self._linger_until
        if self._leaving:
            self._check_leaving(now - self._touched, lingers_too_long)
        elif lingers_too_long or self._headers_are_late(now) or self._is_idle_too_long(now):
            self.timeoutConnection()
        if self.site.limits.minimum_rate is not None:
            self._check_rate(now, self.site.limits.minimum_rate)

    def _headers_are_late(self, now: float) -> bool:
        since = self._headers_since
        return since is not None and now - since > self.site.limits.header_timeout

    def _is_idle_too_long(self, now: float) -> bool:
        if self._period is None:
            return False
        idle = now - self._touched
        return idle > self._period or (
            idle > self.site.limits.crowded_idle
            and self.site.connection_limits.is_crowded
            and self.is_idle
        )

    def _notice_sending(self, now: float) -> None:
        """Count a client that reads its answer as active."""
        unsent = self.unsent_bytes()
        if unsent != self._unsent:
            self._unsent = unsent
            self._touched = now

    def unsent_bytes(self) -> int:
        """Return how many bytes the kernel has not taken yet."""
        waiting: int = len(self.socket_transport.dataBuffer) - self.socket_transport.offset
        return waiting + int(self.socket_transport._tempDataLen)

    def _forget_unsent(self) -> None:
        """Free what was not sent: the garbage collector may free an ended connection much later."""
        self.socket_transport.dataBuffer, self.socket_transport.offset = b"", 0
        self.socket_transport._tempDataBuffer.clear()
        self.socket_transport._tempDataLen = 0

    def _check_leaving(self, idle: float, lingers_too_long: bool) -> None:
        if self._unsent and idle > self.timeOut:
            self.abort()
        elif not self._unsent and (lingers_too_long or idle > self.site.limits.linger_idle):
            # Not aborted: the kernel may still have something to deliver.
            self.socket_transport.loseConnection()

    # -- slow clients -----------------------------------------------------------------------------

    def _check_rate(self, now: float, least: MinimumRate) -> None:
        if not (self.requests or self._unsent):
            self._slowness = None
            return
        if self._slowness is None:
            self._slowness = Slowness(least)
        if not self._slowness.is_due(now):
            return
        must_send = self.must_send() and not self._was_paused
        self._was_paused = self._period is None
        counters = Counters.of(self.socket_transport.socket)
        if counters is None:
            return
        if self._slowness.reads_too_slowly(now, counters):
            self.abort()
        elif self._slowness.sends_too_slowly(now, counters, must_send):
            self.body_is_too_slow()

    def must_send(self) -> bool:
        """Tell whether a body is due from the client."""
        raise NotImplementedError

    def body_is_too_slow(self) -> None:
        """End a request whose body comes too slowly."""
        raise NotImplementedError


class Sweeper:
    """Checks the timeouts of all connections by one timer, so that idle ones cost nothing else."""

    def __init__(self, channels: Collection[TimedChannel], interval: float, clock: Clock) -> None:
        self._channels = channels
        self._interval = interval
        self._seconds = clock.seconds
        self._call = looping_call(clock, self._sweep)
        self._is_wanted = False

    def start(self) -> None:
        self._is_wanted = True
        if not self._call.running:
            self._call.start(self._interval, now=False)

    def stop_when_empty(self) -> None:
        """Stop once the last connection has ended."""
        self._is_wanted = False
        self._stop_if_empty()

    def _stop_if_empty(self) -> None:
        if not self._is_wanted and not self._channels and self._call.running:
            self._call.stop()

    def _sweep(self) -> None:
        now = self._seconds()
        for channel in list(self._channels):
            try:
                channel.check_timeouts(now)
            except Exception:  # one connection must not keep the others from being checked
                _log.failure("Checking the timeouts of a connection failed; it was aborted")
                channel.abort()
        self._stop_if_empty()
