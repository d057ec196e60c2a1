"""Accepts connections on a socket that other processes may share, and go on using after us.

Twisted's own ports take a Unix socket for theirs: they set its mode, and remove it at the end.
"""

import errno
import select
import socket
from collections.abc import Callable
from typing import Any, cast

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import (
    IListeningPort,
    IReactorFDSet,
    IReadDescriptor,
    IStreamServerEndpoint,
)
from twisted.internet.tcp import Server
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from imgservice.concurrency.reactor import ConnectionFactory, DelayedCall, Reactor

AT_ONCE = 100
"""Connections that are accepted in one turn of the reactor."""
TURN = 0.001
"""Seconds that other processes have to accept the next connection, where a socket is shared."""
PAUSE = 0.1
"""Seconds without accepting when no descriptors are left."""
MOST_WAITING = 10_000
"""Connections that are accepted at the end, at most; queues are shorter."""
_SHORT = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)

_log = Logger()


@implementer(IReadDescriptor, IListeningPort)
class Acceptor:
    """A port; `stopReading` and `startReading` let connections wait in the kernel's queue.

    It has the attributes of Twisted's ports with which others decide on what is accepted:
    `factory`, and `numberAccepts` for the present turn.
    """

    def __init__(
        self,
        reactor: Reactor,
        listener: socket.socket,
        factory: ConnectionFactory,
        backlog: int,
        is_shared: bool,
    ) -> None:
        self._reactor = reactor
        self._listener = listener
        # Python takes a socket that it has not made for a blocking one, and makes its copies so.
        listener.setblocking(False)
        self.factory = factory
        self.numberAccepts = AT_ONCE
        self.connected = False
        self.disconnecting = False
        self._backlog = backlog
        self._is_shared = is_shared
        self._is_paused = False
        self._resting: DelayedCall | None = None

    # -- IListeningPort ---------------------------------------------------------------------------

    def startListening(self) -> None:
        try:
            self._listener.listen(self._backlog)
        except OSError:
            self._listener.close()
            raise
        self.factory.doStart()
        self.connected = True
        self._reactor.addReader(self)

    def stopListening(self) -> Deferred[None]:
        """Close our copy of the socket; its queue stays with processes that share it."""
        if self._listener.fileno() >= 0:
            self._rest(None)
            self._reactor.removeReader(self)
            self._listener.close()
            self.connected = False
            self.factory.doStop()
        return succeed(None)

    def getHost(self) -> Any:
        return self._listener.getsockname()

    def accept_waiting(self) -> None:
        """Accept what is in the queue, before the last copy of the socket is closed."""
        poller = select.poll()
        poller.register(self._listener, select.POLLIN)
        for _ in range(MOST_WAITING):
            if not poller.poll(0) or not self._accept():
                return

    # -- pausing ----------------------------------------------------------------------------------

    def stopReading(self) -> None:
        self._is_paused = True
        self._reactor.removeReader(self)

    def startReading(self) -> None:
        self._is_paused = False
        if self._resting is None and self._listener.fileno() >= 0:
            self._reactor.addReader(self)

    def _rest(self, seconds: float | None) -> None:
        """Accept nothing for so many seconds; None ends the pause."""
        if self._resting is not None:
            self._resting.cancel()
            self._resting = None
        if seconds is not None:
            self._reactor.removeReader(self)
            self._resting = self._reactor.callLater(seconds, self._rested)

    def _rested(self) -> None:
        self._resting = None
        if not self._is_paused:
            self.startReading()

    # -- IReadDescriptor --------------------------------------------------------------------------

    def fileno(self) -> int:
        return self._listener.fileno()

    def logPrefix(self) -> str:
        return "acceptor"

    def doRead(self) -> None:
        if self._is_shared:
            # Whoever wakes first would take all that wait, and leave the other processes idle.
            if self._accept():
                self._rest(TURN)
            return
        most, self.numberAccepts = self.numberAccepts, AT_ONCE
        for _ in range(most):
            if not self._accept() or self._is_paused or self._resting is not None:
                return

    def _accept(self) -> bool:
        """Accept one connection; tell whether there was one."""
        try:
            made, peer = self._listener.accept()
        except OSError as error:
            if error.errno in _SHORT:
                self._rest(PAUSE)
            return error.errno == errno.ECONNABORTED
        made.setblocking(False)
        try:
            self._take(made, peer)
        except OSError:
            made.close()  # the client is gone already
        except Exception:
            made.close()
            _log.failure("Failed to accept a connection")
        return True

    def _take(self, made: socket.socket, peer: Any) -> None:
        if made.family == socket.AF_UNIX:
            with made:
                self._reactor.adoptStreamConnection(made.fileno(), made.family, self.factory)
            return
        # As Twisted's own port does: adopting would make a copy, and the number of a descriptor
        # below it would stay unused.
        address = IPv4Address if made.family == socket.AF_INET else IPv6Address
        protocol = self.factory.buildProtocol(address("TCP", *peer))
        if protocol is None:
            made.close()
            return
        transport = Server(
            made, protocol, peer, cast(Any, None), peer[1], cast(IReactorFDSet, self._reactor)
        )
        transport.repstr = f"<{type(protocol).__name__} of {peer[0]}>"
        protocol.makeConnection(transport)

    def connectionLost(self, reason: Failure) -> None:
        self.stopListening()


@implementer(IStreamServerEndpoint)
class SocketEndpoint:
    """An endpoint on a bound socket, of which it takes a copy."""

    def __init__(
        self, reactor: Reactor, bound: socket.socket, backlog: int, is_shared: bool = False
    ) -> None:
        self._make: Callable[[ConnectionFactory], Acceptor] = lambda factory: Acceptor(
            reactor, bound.dup(), factory, backlog, is_shared
        )

    def listen(self, protocolConnectionFactory: ConnectionFactory) -> Deferred[Acceptor]:
        port = self._make(protocolConnectionFactory)
        port.startListening()
        return succeed(port)
