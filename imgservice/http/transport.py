"""Twisted's transports, as far as they are used here, private names included."""

import socket
from typing import Protocol

from twisted.python.failure import Failure

from imgservice.concurrency.reactor import Clock, DescriptorReactor


class Transport(Protocol):
    """The outermost layer of a connection: TLS where there is TLS, else the socket."""

    def write(self, data: bytes, /) -> object: ...

    def loseConnection(self) -> object: ...

    def loseWriteConnection(self) -> object:
        """End our side of the connection; there is no such thing over TLS."""

    def abortConnection(self) -> object: ...


class ConnectionReactor(Clock, DescriptorReactor, Protocol):
    """What a transport knows of the reactor."""


class SocketTransport(Transport, Protocol):
    """The innermost layer: the end of a TCP or Unix connection, with its buffers."""

    reactor: ConnectionReactor
    socket: socket.socket
    connected: bool
    disconnecting: bool
    bufferSize: int
    """The most that is read, or written, at once."""
    dataBuffer: bytes
    offset: int
    """What of `dataBuffer` is sent already."""
    _tempDataBuffer: list[bytes]
    _tempDataLen: int
    _shouldShutdown: bool

    def fileno(self) -> int: ...

    def doWrite(self) -> object: ...

    def connectionLost(self, reason: Failure, /) -> None: ...


class PushProducer(Protocol):
    """The transport as the source of what is read."""

    def pauseProducing(self) -> object: ...

    def resumeProducing(self) -> object: ...

    def unregisterProducer(self) -> object: ...
