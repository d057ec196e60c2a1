"""Sends bodies of answers that are too large for memory."""

from collections.abc import Iterator, Sequence
from contextlib import aclosing, contextmanager

from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from imgservice.concurrency.reactor import Clock
from imgservice.concurrency.threads import Threads
from imgservice.concurrency.wakeup import WakeUp
from imgservice.http.aborted import ClientGone, ShortData, cut
from imgservice.http.request import RequestChannel, StreamingRequest
from imgservice.http.sendfile import BlockBody, FileBody, SendFile, Turns
from imgservice.http.throttle import Throttle


class Sender:
    """Sends files with sendfile(2), and all other bodies block by block."""

    def __init__(self, reactor: Clock, threads: Threads) -> None:
        self._turns = Turns(reactor)
        self._threads = threads

    def takes_files(self, request: StreamingRequest) -> bool:
        """Tell whether the kernel can send a file to this client: it does not encrypt."""
        return not request.isSecure()

    async def send(
        self,
        request: StreamingRequest,
        body: BlockBody | FileBody,
        throttle: Throttle | None = None,
    ) -> None:
        """Send the body as fast as the client and the throttle allow, then finish the request.

        The status and the headers are set already. When reading the body fails, or it has not as
        many bytes as it says (`ShortData`), the connection is closed, so that the client does not
        take a part for the whole. The caller closes the body.
        """
        if request.disconnected:
            raise ClientGone
        try:
            if body.is_file:
                await self._send_file(request, body, throttle)
            else:
                await _send_blocks(request, body, throttle)
        except ClientGone:
            raise
        except Exception:
            cut(request)
            raise
        if request.disconnected:
            raise ClientGone
        request.finish()

    async def _send_file(
        self, request: StreamingRequest, body: FileBody, throttle: Throttle | None
    ) -> None:
        request.write(b"")  # the headers
        sending = SendFile(request, body, self._threads, self._turns, throttle)
        try:
            await sending.run()
        except ClientGone:
            raise
        except Exception as error:
            reason = error
        else:
            return
        finally:
            sending.close()
        await _send_rest(request, body, sending.done, reason, throttle)


@implementer(IPushProducer)
class Gate:
    """Open while the connection accepts data."""

    def __init__(self) -> None:
        self._open = True
        self._gone = False
        self._change = WakeUp()

    async def passable(self) -> None:
        """Wait until the connection accepts data; `ClientGone` when it never will again."""
        if not self._open and not self._gone:
            await self._change.wait()
        if self._gone:
            raise ClientGone

    def pauseProducing(self) -> None:
        self._open = False

    def resumeProducing(self) -> None:
        self._open = True
        self._change.wake()

    def stopProducing(self) -> None:
        """Do nothing: `close` is called once the request knows of the loss."""

    def close(self) -> None:
        """Let nothing pass any more, since the client is gone."""
        self._gone = True
        self._change.wake()


async def _send_rest(
    request: StreamingRequest,
    body: FileBody,
    done: int,
    reason: Exception,
    throttle: Throttle | None,
) -> None:
    """Go on elsewhere after a file broke; raise the reason when that is not possible."""
    rest = await body.rest(done, reason)
    if rest is None:
        raise reason
    async with aclosing(rest):
        await _send_blocks(request, rest, throttle)


async def _send_blocks(
    request: StreamingRequest, body: BlockBody, throttle: Throttle | None
) -> None:
    channel, left = request.channel, body.length
    with _producing(request) as gate:
        async for block in body.blocks():
            left -= len(block)
            if left < 0:
                break
            for piece in _pieces(block, throttle):
                if throttle is not None:
                    await _wait_for(throttle, piece, channel)
                await gate.passable()
                request.write(piece)
                channel.resetTimeout()
    if left:
        raise ShortData(f"the store's data is not {body.length} bytes long")


@contextmanager
def _producing(request: StreamingRequest) -> Iterator[Gate]:
    """Let a gate follow the connection, whose client must read within the idle timeout."""
    channel, gate = request.channel, Gate()
    request.notifyFinish().addErrback(lambda _: gate.close())
    request.registerProducer(gate, True)
    if channel.output_waits:
        gate.pauseProducing()
    channel.setTimeout(channel.timeOut)
    try:
        yield gate
    finally:
        channel.setTimeout(None)
        if not request.disconnected:
            request.unregisterProducer()


def _pieces(block: bytes, throttle: Throttle | None) -> Sequence[bytes]:
    if throttle is None or len(block) <= throttle.piece:
        return (block,)
    return [block[start : start + throttle.piece] for start in range(0, len(block), throttle.piece)]


async def _wait_for(throttle: Throttle, piece: bytes, channel: RequestChannel) -> None:
    channel.setTimeout(None)  # the client waits for us
    await throttle.keep(len(piece))
    channel.setTimeout(channel.timeOut)
