"""The bodies of requests, sent no faster than the other server takes them."""

from collections.abc import AsyncGenerator, Callable
from typing import Protocol, TypeVar, cast

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IPushProducer
from twisted.python.failure import Failure
from twisted.web.iweb import IBodyProducer
from zope.interface import implementer

from imgservice.concurrency.reactor import Clock, DelayedCall
from imgservice.concurrency.wakeup import WakeUp

T = TypeVar("T")


@attrs.frozen
class Body:
    """Data of a known length."""

    length: int
    blocks: Callable[[], AsyncGenerator[bytes, None]]
    """Starts the stream of the data; called again if the request is repeated."""


def body_of(data: bytes) -> Body:
    """Return the body that consists of these bytes."""

    async def blocks() -> AsyncGenerator[bytes, None]:
        yield data

    return Body(len(data), blocks)


class Consumer(Protocol):
    def write(self, data: bytes, /) -> None: ...


class Deadline:
    """Cancels a request whose server keeps us waiting for too long."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._timer: DelayedCall | None = None
        self._cancel: Callable[[], None] = lambda: None
        self.is_over = False

    def watch(self, waiting: Deferred[T]) -> None:
        self._cancel = waiting.cancel

    def start(self, seconds: float) -> None:
        """Allow so many seconds from now."""
        self.stop()
        self._timer = self._clock.callLater(seconds, self._end)

    def stop(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()

    def _end(self) -> None:
        self.is_over = True
        self._cancel()


@implementer(IBodyProducer, IPushProducer)
class BodyProducer:
    """Sends a body for Twisted's client; time in which the data itself is late does not count."""

    def __init__(self, body: Body, deadline: Deadline, idle: float) -> None:
        """`idle` is how long the server may take no data, and after the last of it not answer."""
        self.length = body.length
        self._body = body
        self._deadline = deadline
        self._idle = idle
        self._is_paused = False
        self._resumed = WakeUp()
        self._running: Deferred[None] | None = None
        self._finished: Deferred[None] = Deferred(lambda _: self.stopProducing())

    def startProducing(self, consumer: Consumer) -> Deferred[None]:
        self._deadline.stop()
        self._running = Deferred.fromCoroutine(self._produce(consumer))
        self._running.addCallbacks(self._finish, self._fail)
        return self._finished

    def pauseProducing(self) -> None:
        self._is_paused = True
        self._deadline.start(self._idle)

    def resumeProducing(self) -> None:
        self._is_paused = False
        self._deadline.stop()
        self._resumed.wake()

    def stopProducing(self) -> None:
        """End without a result, since nobody waits for it."""
        self._deadline.stop()
        if self._running is not None:
            self._running.cancel()

    async def _produce(self, consumer: Consumer) -> None:
        blocks = self._body.blocks()
        try:
            async for block in blocks:
                consumer.write(block)
                if self._is_paused:
                    await self._resumed.wait()
        finally:
            await blocks.aclose()

    def _finish(self, _: None) -> None:
        self._deadline.start(self._idle)
        self._finished.callback(None)

    def _fail(self, failure: Failure) -> None:
        self._deadline.stop()
        if not failure.check(CancelledError):
            self._finished.errback(failure)


def producer(body: Body, deadline: Deadline, idle: float) -> IBodyProducer:
    """Return what Twisted's client takes."""
    return cast(IBodyProducer, BodyProducer(body, deadline, idle))
