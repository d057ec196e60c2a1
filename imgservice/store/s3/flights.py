"""Requests that run beside each other, and what is done about them when an upload fails."""

from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, DeferredList
from twisted.python.failure import Failure

from imgservice.concurrency.deferreds import after
from imgservice.concurrency.reactor import Clock
from imgservice.concurrency.wakeup import WakeUp
from imgservice.store.s3.payloads import Payload, Streamed

T = TypeVar("T")


class Flights:
    """The requests of one upload that send data.

    A server may still carry out a request whose connection was closed, if it had all of its data:
    then the object, or a part, would appear after everything was cleaned up. So `land` waits for
    the answers to those.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._running: dict[Deferred[None], Payload | Streamed] = {}
        self._ended = WakeUp()
        self._failure: Failure | None = None

    def begin(
        self,
        work: Coroutine[Any, Any, T],
        payload: Payload | Streamed,
        done: Callable[[T], None] = lambda _: None,
    ) -> None:
        """Start the work, and call `done` with its result; `room` raises what it raises."""

        async def run() -> None:
            done(await work)

        def end(result: Failure | None) -> None:
            del self._running[running]
            if result is not None and self._failure is None:
                self._failure = result
            self._ended.wake()

        running = Deferred.fromCoroutine(run())
        self._running[running] = payload
        running.addBoth(end)

    async def call(
        self,
        work: Coroutine[Any, Any, T],
        payload: Payload | Streamed,
        done: Callable[[T], None] = lambda _: None,
    ) -> None:
        """Do the work; it goes on when the waiting for it is cancelled."""
        self.begin(work, payload, done)
        await self.room(0)

    async def room(self, most: int) -> None:
        """Wait until no more than so many are running."""
        self._check()
        while len(self._running) > most:
            await self._ended.wait()
            self._check()

    async def land(self, seconds: float) -> None:
        """End all: cancel those whose data the server does not have, and wait for the others.

        What is not answered within so many seconds is cancelled as well.
        """
        for running, payload in list(self._running.items()):
            if not payload.is_sent:
                running.cancel()
        waiting = [*self._running]
        timer = self._clock.callLater(seconds, _cancel, waiting)
        try:
            await DeferredList([after(one) for one in waiting])
        finally:
            if timer.active():
                timer.cancel()
            self._failure = None  # its traceback leads to the data, and so back to here

    def _check(self) -> None:
        if self._failure is not None:
            self._failure.raiseException()


def _cancel(waiting: Sequence[Deferred[None]]) -> None:
    for one in waiting:
        one.cancel()
