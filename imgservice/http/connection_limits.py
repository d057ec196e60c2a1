"""The limits of connections, checked before a byte is read or a TLS handshake begins."""

import errno
import os
import resource
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Protocol

import attrs
from twisted.internet.interfaces import IAddress, IProtocolFactory
from twisted.logger import Logger
from zope.interface import implementer

from imgservice.concurrency.reactor import Clock, ConnectionFactory, DelayedCall
from imgservice.http.log_limit import LogLimit
from imgservice.http.networks import Networks, is_within, neighbourhood

AT_ONCE = 50
"""Connections accepted in one turn of the reactor, so that other work gets its share."""
LEAST_RESERVE = 32
"""Descriptors kept free for stores, the database and Keystone: at least these, and a quarter of
all, since every download takes up to two more."""
SLACK = 20
"""One of so many connections must have ended before accepting resumes: it does not flap then."""
CHECK_INTERVAL = 0.25
"""Seconds between checks whether there are descriptors again."""
DESCRIPTORS = Path("/proc/self/fd")

_log = Logger()


@attrs.frozen
class ConnectionCaps:
    """The configured limits; None is no limit but the number of descriptors."""

    in_all: int | None = None
    of_each_address: int | None = None
    exempt: Networks = ()
    """Addresses without a limit."""


class ListeningPort(Protocol):
    """A port of Twisted on which connections are accepted."""

    factory: ConnectionFactory
    numberAccepts: int
    connected: bool
    disconnecting: bool

    def fileno(self) -> int: ...

    def doRead(self) -> object:
        """Accept up to `numberAccepts` connections."""

    def stopReading(self) -> object: ...

    def startReading(self) -> object: ...


class ConnectionLimits:
    """Counts the connections of a process, and holds its listening ports to the limits.

    An address with too many connections is refused further ones. When the process has too many,
    none is refused: new connections wait in the kernel until others have ended.
    """

    def __init__(self, reactor: Clock, limits: ConnectionCaps | None = None) -> None:
        self._reactor = reactor
        self._limits = limits or ConnectionCaps()
        self._of_each: Counter[str] = Counter()
        self._ports: list[ListeningPort] = []
        self._pausing = False
        self._next_check: DelayedCall | None = None
        self._refusals = LogLimit(reactor)
        self._pauses = LogLimit(reactor)
        self.connections = 0
        self.refused = 0

    @property
    def is_crowded(self) -> bool:
        """Whether connections have to wait because there are too many."""
        return self._pausing

    # -- listening ports --------------------------------------------------------------------------

    def watch(self, port: ListeningPort) -> None:
        """Limit what is accepted on a listening port, as long as it listens."""
        port.factory = _LimitedFactory(port.factory, self)
        # The reactor asks the port for its method each time.
        accept = partial(self._accept, port, port.doRead)
        port.doRead = accept  # type: ignore[method-assign]
        self._ports.append(port)
        if self._pausing:
            port.stopReading()

    def _accept(self, port: ListeningPort, accept: Callable[[], object]) -> None:
        """Accept waiting connections, as many as the limits allow.

        Twisted itself closes all of them when there are no descriptors left.
        """
        room = self._room(port)
        if room > 0:
            port.numberAccepts = min(port.numberAccepts, room)
            accept()
        else:
            self._pause()

    # -- connections ------------------------------------------------------------------------------

    def admits(self, host: str | None) -> bool:
        """Tell whether an address may have one more connection; None is a Unix socket."""
        key, most = self._key(host), self._limits.of_each_address
        if key is None or most is None or self._of_each[key] < most:
            return True
        self.refused += 1
        if count := self._refusals.due():
            _log.warn(
                "Refused {count} connections from addresses that have {most} already,"
                " the last from {host}",
                count=count,
                most=most,
                host=host,
            )
        return False

    def enter(self, host: str | None) -> str | None:
        """Count a connection; return the key to `leave` with."""
        self.connections += 1
        key = self._key(host)
        if key is not None:
            self._of_each[key] += 1
        return key

    def leave(self, key: str | None) -> None:
        """Count a connection that has ended."""
        self.connections -= 1
        if key is not None:
            self._of_each[key] -= 1
            if not self._of_each[key]:
                del self._of_each[key]
        if self._pausing and self._has_room():
            self._resume_if_possible()

    def _key(self, host: str | None) -> str | None:
        if host is None or is_within(host, self._limits.exempt):
            return None
        return neighbourhood(host)

    # -- the process ------------------------------------------------------------------------------

    def _room(self, port: ListeningPort) -> int:
        """Return how many connections to accept now."""
        limit, reserve = _descriptors()
        try:
            lowest = os.dup(port.fileno())  # whatever is below it is in use
        except OSError:
            return 0
        os.close(lowest)
        # Some of those above it may be in use as well: the reserve covers them.
        room = min(limit - reserve - lowest, AT_ONCE, reserve // 4)
        if self._limits.in_all is not None:
            room = min(room, self._limits.in_all - self.connections)
        return room if self.connections else max(1, room)

    def _pause(self) -> None:
        if count := self._pauses.due():
            _log.warn(
                "New connections have to wait: {connections} are open"
                " ({count} times since the last warning)",
                connections=self.connections,
                count=count,
            )
        self._pausing = True
        for port in self._ports:
            port.stopReading()
        self._plan_check()

    def _plan_check(self) -> None:
        if self._next_check is None:
            self._next_check = self._reactor.callLater(CHECK_INTERVAL, self._check_again)

    def _check_again(self) -> None:
        self._next_check = None
        self._resume_if_possible()
        if self._pausing and self._ports:
            self._plan_check()

    def _resume_if_possible(self) -> None:
        """Accept connections again if enough of them have ended."""
        self._ports = [port for port in self._ports if _listens(port)]
        if self._pausing and self._has_room() and (not self.connections or _has_descriptors()):
            self._pausing = False
            for port in self._ports:
                port.startReading()

    def _has_room(self) -> bool:
        most = self._limits.in_all
        return most is None or self.connections <= most - max(1, most // SLACK)


def _descriptors() -> tuple[int, int]:
    """Return the limit of descriptors, and how many of them are reserved."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return limit, max(LEAST_RESERVE, limit // 4)


def _has_descriptors() -> bool:
    limit, reserve = _descriptors()
    most = limit - reserve
    try:
        return sum(1 for _ in DESCRIPTORS.iterdir()) <= most - max(1, most // SLACK)
    except OSError as error:
        return error.errno not in (errno.EMFILE, errno.ENFILE)


def _listens(port: ListeningPort) -> bool:
    return bool(port.connected and not port.disconnecting)


@implementer(IProtocolFactory)
class _LimitedFactory:
    """Wraps the outermost factory of a port, TLS or not; Twisted closes what it refuses."""

    def __init__(self, factory: ConnectionFactory, limits: ConnectionLimits) -> None:
        self._factory = factory
        self._limits = limits

    def buildProtocol(self, addr: IAddress) -> object:
        if self._limits.admits(getattr(addr, "host", None)):
            return self._factory.buildProtocol(addr)
        return None

    def doStart(self) -> None:
        self._factory.doStart()

    def doStop(self) -> None:
        self._factory.doStop()
