"""Sends files with sendfile(2): the kernel copies them to the connection."""

import errno
import os
from collections.abc import AsyncIterator
from time import perf_counter
from typing import Literal, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IWriteDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from imgservice.concurrency.reactor import Clock, DelayedCall
from imgservice.concurrency.threads import Threads
from imgservice.http.aborted import ClientGone, ShortData, cut
from imgservice.http.request import StreamingRequest
from imgservice.http.throttle import Throttle

LOOK_AHEAD = 1 << 20
LARGEST_PIECE = 1 << 20
SMALLEST_PIECE = 128 << 10
PIECES_TOGETHER = 8 << 20
"""What is sent at a time shrinks when many files are sent, so that each gets its turn soon."""
TURN = 0.002
"""Seconds of each turn of the reactor that all files together may take."""
PROBE_STEP = 128 << 10


class BlockBody(Protocol):
    """A body that comes block by block."""

    @property
    def is_file(self) -> Literal[False]: ...

    @property
    def length(self) -> int: ...

    def blocks(self) -> AsyncIterator[bytes]: ...

    async def aclose(self) -> None: ...


class FileBody(Protocol):
    """A body that is a part of a local file."""

    @property
    def is_file(self) -> Literal[True]: ...

    @property
    def descriptor(self) -> int: ...

    @property
    def start(self) -> int: ...

    @property
    def length(self) -> int: ...

    async def rest(self, done: int, reason: Exception) -> BlockBody | None:
        """Return what follows the first `done` bytes, from elsewhere, because the file broke."""


class Turns:
    """Shares the reactor between the files that are being sent and all other work.

    The kernel copies whole buffers while it sends, and hundreds of sockets may become writable at
    once: what does not fit into one turn of the reactor waits for the next.
    """

    def __init__(self, reactor: Clock) -> None:
        self._reactor = reactor
        self._end: float | None = None
        self.senders = 0

    def is_over(self) -> bool:
        """Tell whether the files have used up their share of this turn."""
        now = perf_counter()
        if self._end is None:
            self._end = now + TURN
            self._reactor.callLater(0, self._next)
        return now >= self._end

    def piece(self) -> int:
        """Return how much to send at a time."""
        return max(SMALLEST_PIECE, min(LARGEST_PIECE, PIECES_TOGETHER // max(1, self.senders)))

    def _next(self) -> None:
        self._end = None


@implementer(IWriteDescriptor)
class SendFile:
    """Calls sendfile(2) on a duplicate of the connection's socket whenever that is writable.

    Pages that are not in memory are read by a thread first, so that a file on a slow disk delays
    no other connection.
    """

    def __init__(
        self,
        request: StreamingRequest,
        body: FileBody,
        threads: Threads,
        turns: Turns,
        throttle: Throttle | None,
    ) -> None:
        self._request = request
        self._channel = request.channel
        self._transport = request.channel.socket_transport
        self._reactor = self._transport.reactor
        self._turns = turns
        self._throttle = throttle
        self._pause: DelayedCall | None = None
        self._body = body
        self._file = body.descriptor
        self._position = self._warm = body.start
        self._end = body.start + body.length
        self._threads = threads
        self._socket = os.dup(self._transport.fileno())
        self._done: Deferred[None] = Deferred()
        request.notifyFinish().addErrback(lambda _: self._fail(ClientGone()))

    @property
    def done(self) -> int:
        """How many bytes were sent."""
        return self._position - self._body.start

    async def run(self) -> None:
        """Send all of it."""
        if self._position == self._end:
            return
        self._transport.doWrite()  # the headers must leave before the first byte of the file
        self._channel.setTimeout(self._channel.timeOut)
        self._turns.senders += 1
        self._reactor.addWriter(self)
        try:
            await self._done
        finally:
            self._turns.senders -= 1
            self._channel.setTimeout(None)

    def close(self) -> None:
        self._reactor.removeWriter(self)
        if self._pause is not None:
            self._pause.cancel()
        os.close(self._socket)

    # -- IWriteDescriptor -------------------------------------------------------------------------

    def fileno(self) -> int:
        return self._socket

    def logPrefix(self) -> str:
        return "sendfile"

    def connectionLost(self, reason: Failure) -> None:
        """Close the connection itself, which tells the request, which tells us."""
        self._reactor.removeWriter(self)
        cut(self._request)

    def doWrite(self) -> None:
        """Send what the socket takes; called by the reactor."""
        if self._transport.dataBuffer or self._transport._tempDataBuffer:
            return  # the headers are still on their way
        if self._turns.is_over() or (self._position >= self._warm and not self._look_ahead()):
            return
        count = min(self._piece(), self._warm - self._position)
        try:
            sent = os.sendfile(self._socket, self._file, self._position, count)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno in (errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN):
                self.connectionLost(Failure(error))
            else:
                self._fail(error)
            return
        self._sent(sent)

    def _piece(self) -> int:
        piece = self._turns.piece()
        return piece if self._throttle is None else min(piece, self._throttle.piece)

    def _sent(self, count: int) -> None:
        self._channel.resetTimeout()
        self._position += count
        self._request.sentLength += count
        if count == 0:
            self._fail(ShortData("the file became shorter than the image"))
        elif self._position == self._end:
            self._finish()
        elif self._throttle is not None:
            self._pause_for(self._throttle.pay(count))

    def _pause_for(self, seconds: float) -> None:
        if seconds > 0:
            self._reactor.removeWriter(self)
            self._channel.setTimeout(None)  # the client waits for us
            self._pause = self._reactor.callLater(seconds, self._resume)

    def _resume(self) -> None:
        self._pause = None
        self._channel.setTimeout(self._channel.timeOut)
        self._reactor.addWriter(self)

    def _finish(self) -> None:
        self._reactor.removeWriter(self)
        if not self._done.called:
            self._done.callback(None)

    def _fail(self, error: BaseException) -> None:
        self._reactor.removeWriter(self)
        if not self._done.called:
            self._done.errback(Failure(error))

    # -- cold pages -------------------------------------------------------------------------------

    def _look_ahead(self) -> bool:
        """Tell whether the next piece is in memory; if not, continue once a thread has read it."""
        upto = min(self._position + LOOK_AHEAD, self._end)
        if in_memory(self._file, self._position, upto):
            self._warm = upto
            return True
        self._reactor.removeWriter(self)
        self._threads.run(read_through, os.dup(self._file), self._position, upto).addBoth(
            self._looked, upto
        )
        return False

    def _looked(self, result: object, upto: int) -> None:
        if self._done.called:
            return
        if isinstance(result, Failure):
            self._fail(result.value or ShortData())
            return
        self._warm = upto
        self._reactor.addWriter(self)


def in_memory(descriptor: int, start: int, end: int) -> bool:
    """Tell, from samples, whether the kernel has these bytes in memory."""
    sample = bytearray(1)
    try:
        for offset in (*range(start, end, PROBE_STEP), end - 1):
            os.preadv(descriptor, [sample], offset, os.RWF_NOWAIT)
    except BlockingIOError:
        return False
    except OSError:
        return True  # a file system that cannot tell: sendfile will do what it can
    return True


def read_through(descriptor: int, start: int, end: int) -> None:
    """Read bytes of a file into memory, and ask the kernel for more. Closes the descriptor."""
    try:
        os.posix_fadvise(descriptor, start, 4 * (end - start), os.POSIX_FADV_WILLNEED)
        for offset in (*range(start, end, PROBE_STEP), end - 1):
            os.pread(descriptor, 1, offset)
    finally:
        os.close(descriptor)
