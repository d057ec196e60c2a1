"""The connection between the parent and a worker: messages both ways, with descriptors."""

import errno
import os
import socket
from collections import deque
from collections.abc import Callable, Sequence

from twisted.internet.interfaces import IReadWriteDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from imgservice.concurrency.reactor import Reactor
from imgservice.process.messages import LARGEST, MOST_DESCRIPTORS, Message, decode, encode

PAUSE = 0.05
"""Seconds to wait when too many descriptors are in flight."""
MOST_AT_ONCE = 64
"""Messages that are read in one turn of the reactor."""
Received = Callable[[Message, Sequence[int]], None]


def connection() -> tuple[socket.socket, socket.socket]:
    """Return the two ends; every message arrives whole, or not at all."""
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
    return ends[0], ends[1]


@implementer(IReadWriteDescriptor)
class Control:
    """One end. The sender of descriptors gives them away, the receiver owns them."""

    def __init__(
        self, reactor: Reactor, end: socket.socket, received: Received, lost: Callable[[], None]
    ) -> None:
        self._reactor = reactor
        self._end = end
        end.setblocking(False)
        self._received = received
        self._lost = lost
        self._waiting: deque[tuple[bytes, Sequence[int]]] = deque()
        reactor.addReader(self)

    def send(self, message: Message, descriptors: Sequence[int] = ()) -> None:
        """Send soon, and in order; drop the message when the other end is closed."""
        self._waiting.append((encode(message), descriptors))
        if len(self._waiting) == 1:
            self.doWrite()

    @property
    def is_sending(self) -> bool:
        """Whether something still waits to be sent."""
        return bool(self._waiting)

    def close(self) -> None:
        """Close this end; what waits is not sent."""
        if self._end.fileno() < 0:
            return
        self._reactor.removeReader(self)
        self._reactor.removeWriter(self)
        self._end.close()
        while self._waiting:
            _close(self._waiting.popleft()[1])

    # -- IReadWriteDescriptor ---------------------------------------------------------------------

    def fileno(self) -> int:
        return self._end.fileno()

    def logPrefix(self) -> str:
        return "control"

    def doRead(self) -> None:
        for _ in range(MOST_AT_ONCE):
            try:
                data, descriptors, _, _ = socket.recv_fds(
                    self._end, LARGEST, MOST_DESCRIPTORS, socket.MSG_CMSG_CLOEXEC
                )
            except BlockingIOError:
                return
            except OSError:
                data, descriptors = b"", []
            if not data:
                self.close()
                self._lost()
                return
            self._received(decode(data), descriptors)
            if self._end.fileno() < 0:
                return

    def doWrite(self) -> None:
        while self._waiting:
            data, descriptors = self._waiting[0]
            try:
                socket.send_fds(self._end, [data], descriptors)
            except BlockingIOError:
                self._reactor.addWriter(self)
                return
            except OSError as error:
                if error.errno == errno.ETOOMANYREFS:
                    self._wait_for_receivers()
                    return
                # else the other end is closed, as reading will show
            self._waiting.popleft()
            _close(descriptors)
        self._reactor.removeWriter(self)

    def _wait_for_receivers(self) -> None:
        """Try again later: too many descriptors of this user are in flight."""
        self._reactor.removeWriter(self)
        self._reactor.callLater(PAUSE, self.doWrite)

    def connectionLost(self, reason: Failure) -> None:
        self.close()


def _close(descriptors: Sequence[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def hidden_file(data: bytes) -> int:
    """Return a descriptor of an anonymous file with the data, to be read from its beginning."""
    descriptor = os.memfd_create("imgservice", os.MFD_CLOEXEC)
    with os.fdopen(os.dup(descriptor), "wb") as file:
        file.write(data)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def read_hidden_file(descriptor: int) -> bytes:
    """Read it, and close it at once: processes of the same user could read it through /proc."""
    with os.fdopen(descriptor, "rb") as file:
        return file.read()
