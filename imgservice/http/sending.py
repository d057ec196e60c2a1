"""Bodies of answers that are too large for memory: from a file by the kernel, or block by block."""

import errno
import os
from collections.abc import AsyncIterator, Sequence
from time import perf_counter
from typing import Any, Protocol, runtime_checkable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer, IWriteDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from imgservice.concurrency.threads import Threads
from imgservice.http.request import StreamingRequest
from imgservice.http.throttle import Throttle

LOOK_AHEAD = 1 << 20
LARGEST_PIECE = 1 << 20
SMALLEST_PIECE = 128 << 10
PIECES_TOGETHER = 8 << 20
"""What is sent at a time shrinks when many are sending, so that each gets its turn soon."""
TURN = 0.002
"""Seconds of each turn of the reactor that all files together may take."""
PROBE_STEP = 128 << 10


class ClientGone(Exception):
    """The client closed the connection before it had the whole answer."""


class ShortData(Exception):
    """The store had fewer bytes than the image has; the connection was cut."""


class BlockBody(Protocol):
    """A body that comes block by block."""

    @property
    def length(self) -> int: ...

    def blocks(self) -> AsyncIterator[bytes]: ...


@runtime_checkable
class FileBody(Protocol):
    """A body that is a part of a local file."""

    @property
    def descriptor(self) -> int: ...

    @property
    def start(self) -> int: ...

    @property
    def length(self) -> int: ...


class Sender:
    """Sends bodies that are too large for memory: local files by the kernel, all others by us."""

    def __init__(self, reactor: Any, threads: Threads) -> None:
        self._turns = Turns(reactor)
        self._threads = threads

    def takes_files(self, request: StreamingRequest) -> bool:
        """Tell whether the kernel can send a file as this answer; it cannot encrypt."""
        return not request.isSecure()

    async def send(
        self, request: StreamingRequest, body: BlockBody | FileBody, pace: Throttle | None = None
    ) -> None:
        """Send the body as fast as the client and the throttle take it, then finish the request.

        The status and the headers are set already. `ShortData` when the body has not as many bytes
        as it says: the connection is cut then, so that nobody takes the part for the whole. The
        caller closes the body.
        """
        if isinstance(body, FileBody):
            await _send_file(request, body, self._threads, self._turns, pace)
        else:
            await _send_blocks(request, body.blocks(), body.length, pace)


@implementer(IPushProducer)
class Gate:
    """Open while the connection takes data."""

    def __init__(self) -> None:
        self._open = True
        self._gone = False
        self._waiter: Deferred[None] | None = None

    async def passable(self) -> None:
        """Wait until the connection takes data; `ClientGone` when it never will again."""
        if not self._open and not self._gone:
            self._waiter = Deferred()
            await self._waiter
        if self._gone:
            raise ClientGone

    def pauseProducing(self) -> None:
        self._open = False

    def resumeProducing(self) -> None:
        self._open = True
        self._wake()

    def stopProducing(self) -> None:
        """The transport tells it first, but the request does not know of the loss yet."""

    def close(self) -> None:
        """Let nothing pass any more: the client is gone."""
        self._gone = True
        self._wake()

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            waiter.callback(None)


async def _send_blocks(
    request: StreamingRequest, blocks: AsyncIterator[bytes], length: int, pace: Throttle | None
) -> None:
    try:
        await _write_blocks(request, blocks, length, pace)
    except ClientGone:
        raise
    except Exception:
        cut(request)
        raise
    if request.disconnected:
        raise ClientGone
    request.finish()


async def _write_blocks(
    request: StreamingRequest, blocks: AsyncIterator[bytes], length: int, pace: Throttle | None
) -> None:
    if request.disconnected:
        raise ClientGone
    channel, gate = request.channel, Gate()
    request.notifyFinish().addErrback(lambda _: gate.close())
    request.registerProducer(gate, True)
    if channel.output_waits:
        gate.pauseProducing()
    channel.setTimeout(channel.timeOut)
    left = length
    try:
        async for block in blocks:
            left -= len(block)
            if left < 0:
                break
            for piece in _pieces(block, pace):
                if pace is not None:
                    channel.setTimeout(None)  # it is our turn
                    await pace.keep(len(piece))
                    channel.setTimeout(channel.timeOut)
                await gate.passable()
                request.write(piece)
                channel.resetTimeout()
    finally:
        channel.setTimeout(None)
        if not request.disconnected:
            request.unregisterProducer()
    if left:
        raise ShortData(f"the store's data is not {length} bytes long")


def _pieces(block: bytes, pace: Throttle | None) -> Sequence[bytes]:
    if pace is None or len(block) <= pace.piece:
        return (block,)
    return [block[start : start + pace.piece] for start in range(0, len(block), pace.piece)]


def cut(request: StreamingRequest) -> None:
    """End the connection so that the client sees an error, not a shorter image."""
    if not request.disconnected:
        request.channel.abort()


async def _send_file(
    request: StreamingRequest,
    body: FileBody,
    threads: Threads,
    turns: "Turns",
    pace: Throttle | None,
) -> None:
    if request.disconnected:
        raise ClientGone
    request.write(b"")  # the headers; an empty body has no more to it
    sender = _SendFile(request, body, threads, turns, pace)
    try:
        await sender.run()
    finally:
        sender.close()
    request.finish()


class Turns:
    """Shares the reactor between the files that are being sent and everybody else.

    The kernel copies whole buffers while it sends, and hundreds of sockets may become writable at
    once: what does not fit into one turn of the reactor is left for the next.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._end: float | None = None
        self.senders = 0

    def is_over(self) -> bool:
        """Tell whether the files have had their part of the present turn."""
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
class _SendFile:
    """sendfile(2) on a duplicate of the connection's socket, when the reactor finds it writable.

    Pages that are not in memory are read by a thread before the reactor touches them, so that a
    cold file on a slow disk delays nobody else.
    """

    def __init__(
        self,
        request: StreamingRequest,
        body: FileBody,
        threads: Threads,
        turns: Turns,
        pace: Throttle | None,
    ) -> None:
        self._request = request
        self._channel = request.channel
        self._transport: Any = request.channel.transport
        self._reactor = self._transport.reactor
        self._turns = turns
        self._pace = pace
        self._rest: Any = None
        self._file = body.descriptor
        self._position = self._warm = body.start
        self._end = body.start + body.length
        self._threads = threads
        self._socket = os.dup(self._transport.fileno())
        self._done: Deferred[None] = Deferred()
        request.notifyFinish().addErrback(lambda _: self._fail(ClientGone()))

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
        if self._rest is not None:
            self._rest.cancel()
        os.close(self._socket)

    # -- IWriteDescriptor -------------------------------------------------------------------------

    def fileno(self) -> int:
        return self._socket

    def logPrefix(self) -> str:
        return "sendfile"

    def connectionLost(self, reason: Failure) -> None:
        """End the connection itself; the request is told of that, and then so are we."""
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
        return piece if self._pace is None else min(piece, self._pace.piece)

    def _sent(self, count: int) -> None:
        self._channel.resetTimeout()
        self._position += count
        self._request.sentLength += count
        if count == 0:
            self._fail(ShortData("the file became shorter than the image"))
        elif self._position == self._end:
            self._finish()
        elif self._pace is not None:
            self._rest_for(self._pace.pay(count))

    def _rest_for(self, seconds: float) -> None:
        if seconds > 0:
            self._reactor.removeWriter(self)
            self._channel.setTimeout(None)  # it is our turn
            self._rest = self._reactor.callLater(seconds, self._rested)

    def _rested(self) -> None:
        self._rest = None
        self._channel.setTimeout(self._channel.timeOut)
        self._reactor.addWriter(self)

    def _finish(self) -> None:
        self._reactor.removeWriter(self)
        if not self._done.called:
            self._done.callback(None)

    def _fail(self, error: BaseException) -> None:
        self._reactor.removeWriter(self)
        if not self._done.called:
            if not isinstance(error, ClientGone):
                cut(self._request)
            self._done.errback(Failure(error))

    # -- cold pages -------------------------------------------------------------------------------

    def _look_ahead(self) -> bool:
        """Tell whether the next piece is in memory; if not, have it read and come back."""
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
    """Bring bytes of a file into memory, and ask for some more to follow. Closes the descriptor."""
    try:
        os.posix_fadvise(descriptor, start, 4 * (end - start), os.POSIX_FADV_WILLNEED)
        for offset in (*range(start, end, PROBE_STEP), end - 1):
            os.pread(descriptor, 1, offset)
    finally:
        os.close(descriptor)
