"""The bodies of requests, sent no faster than the other server takes them."""

from collections.abc import AsyncGenerator, Callable
from typing import Protocol, TypeVar, cast

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IPushProducer
from twisted.python.failure import Failure
from twisted.web.iweb import UNKNOWN_LENGTH, IBodyProducer
from zope.interface import implementer

from imgservice.concurrency.reactor import Clock, DelayedCall
from imgservice.concurrency.wakeup import WakeUp
from imgservice.net.limits import FetchLimits

T = TypeVar("T")


@attrs.frozen
class Body:
    """Data of a known length, or of an unknown one, which is sent in chunks.

    A server that refuses data of unknown length gets no more of it, and its answer is returned.
    """

    length: int | None
    blocks: Callable[[], AsyncGenerator[bytes, None]]
    """Starts the stream of the data; called again if the request is repeated."""
    is_asked_for: bool = False
    """Whether the data is sent only when the server says that it wants it (100 Continue)."""


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

    def __init__(self, clock: Clock, body: Body, deadline: Deadline, limits: FetchLimits) -> None:
        """`limits.idle` is how long the server may take no data, and then not answer."""
        self.length = UNKNOWN_LENGTH if body.length is None else body.length
        self._body = body
        self._clock = clock
        self._wanted: Deferred[None] = Deferred()
        self._deadline = deadline
        self._limits = limits
        self._is_paused = False
        self._is_answered = False
        self._resumed = WakeUp()
        self._running: Deferred[None] | None = None
        self._finished: Deferred[None] = Deferred(lambda _: self.stopProducing())

    def startProducing(self, consumer: Consumer) -> Deferred[None]:
        self._deadline.stop()
        self._running = Deferred.fromCoroutine(self._produce(consumer))
        self._running.addCallbacks(self._finish, self._fail)
        return self._finished

    def proceed(self) -> None:
        """Note that the server wants the data."""
        if not self._wanted.called:
            self._wanted.callback(None)

    def answered(self) -> None:
        """Note that there is an answer although the server does not have all data yet."""
        if self._body.length is None and self._running is not None:
            self._is_answered = True
            self._running.cancel()

    def pauseProducing(self) -> None:
        self._is_paused = True
        self._deadline.start(self._limits.idle)

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
        if self._body.is_asked_for:
            await self._permission()
        blocks = self._body.blocks()
        try:
            async for block in blocks:
                consumer.write(block)
                if self._is_paused:
                    await self._resumed.wait()
        finally:
            await blocks.aclose()

    async def _permission(self) -> None:
        timer = self._clock.callLater(self._limits.permission, self.proceed)
        try:
            await self._wanted
        finally:
            if timer.active():
                timer.cancel()

    def _finish(self, _: None) -> None:
        self._deadline.start(self._limits.idle)
        self._finished.callback(None)

    def _fail(self, failure: Failure) -> None:
        if self._is_answered and failure.check(CancelledError):
            self._finish(None)
            return
        self._deadline.stop()
        if not failure.check(CancelledError):
            self._finished.errback(failure)


def producer(clock: Clock, body: Body, deadline: Deadline, limits: FetchLimits) -> IBodyProducer:
    """Return what Twisted's client takes."""
    return cast(IBodyProducer, BodyProducer(clock, body, deadline, limits))
