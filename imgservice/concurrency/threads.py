"""Blocking work beside the reactor: single calls, and ordered queues for streams."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import ParamSpec, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from imgservice.concurrency.reactor import ThreadedReactor

P = ParamSpec("P")
T = TypeVar("T")


class Threads:
    """A bounded pool of threads whose results come back to the reactor."""

    def __init__(self, reactor: ThreadedReactor, size: int, name: str) -> None:
        self._reactor = reactor
        self._executor = ThreadPoolExecutor(size, name)

    def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        """Call `work` in a thread. Cancelling the result does not stop the work."""
        result: Deferred[T] = Deferred()

        def call() -> None:
            try:
                value = work(*args, **kwargs)
            except BaseException:
                failure = Failure()  # type: ignore[no-untyped-call]
                self._reactor.callFromThread(result.errback, failure)
            else:
                self._reactor.callFromThread(result.callback, value)

        self._executor.submit(call)
        return result

    def serial_queue(self, window: int | Callable[[], int]) -> "SerialQueue":
        """Return a new queue in which up to `window` bytes may wait, or as many as it says then."""
        return SerialQueue(self._executor, self._reactor, window)

    def stop(self) -> None:
        """Let running work and begun queues end, then let the threads go."""
        self._executor.shutdown(wait=True)


class SerialQueue:
    """One stream's work, done in order by whichever thread is free, one piece at a time.

    What waits is counted in bytes: `put` returns at once while there is room, and otherwise once
    half of the window is free again, so that the reactor is woken rarely. A queue belongs to one
    coroutine: only one `put`, `call`, `drain` or `abandon` may wait at a time.
    """

    def __init__(
        self,
        executor: ThreadPoolExecutor,
        reactor: ThreadedReactor,
        window: int | Callable[[], int],
    ) -> None:
        self._executor = executor
        self._reactor = reactor
        self._window = window if callable(window) else lambda: window
        self._lock = Lock()
        self._queue: deque[tuple[Callable[[bytes], object], bytes]] = deque()
        self._bytes = 0
        self._running = False
        self._ended = False
        self._low = 0
        self._waiter: Deferred[None] | None = None
        self._error: BaseException | None = None

    async def put(self, work: Callable[[bytes], object], block: bytes) -> None:
        """Queue `work(block)`; raise what an earlier piece of work raised."""
        window = self._window()
        with self._lock:
            self._raise_error()
            self._append(work, block)
            waiter = self._wait_for(window // 2) if self._bytes >= window else None
        if waiter is not None:
            await waiter
            self._raise_error()

    async def call(self, work: Callable[[], T]) -> T:
        """Call `work` after all that was put, and return what it returns."""
        results: list[T] = []
        await self.put(lambda _: results.append(work()), b"")
        await self.drain()
        return results[0]

    async def drain(self) -> None:
        """Wait until all that was put is done; raise what any of it raised."""
        with self._lock:
            waiter = self._wait_for(-1) if self._running else None
        if waiter is not None:
            await waiter
        self._raise_error()

    async def abandon(self, last: Callable[[], object] | None = None) -> None:
        """Drop what has not begun, let what has begun come to its end, and then call `last`.

        This waits for all of that. When the waiting itself is cancelled, `last` is called
        nevertheless. What the work raises is dropped too.
        """
        with self._lock:
            self._end(last)
            waiter = self._wait_for(-1) if self._running else None
        if waiter is not None:
            await waiter

    def abandon_soon(self, last: Callable[[], object]) -> None:
        """Do as `abandon` does, but wait for nothing.

        This takes no lock, so that the `finally` of a generator may call it even when the garbage
        collector runs that in the middle of anything.
        """
        self._reactor.callFromThread(self._end_locked, last)

    def _end_locked(self, last: Callable[[], object]) -> None:
        with self._lock:
            self._end(last)

    def _end(self, last: Callable[[], object] | None) -> None:
        self._queue.clear()
        self._ended = True
        self._error = None  # its traceback has us, and the block that was worked on
        if last is None:
            return
        try:
            self._append(lambda _: last(), b"")
        except RuntimeError:  # the pool is stopped, and so is whatever this queue did
            last()

    def _append(self, work: Callable[[bytes], object], block: bytes) -> None:
        if not self._running:
            self._executor.submit(self._step)
            self._running = True
        self._queue.append((work, block))
        self._bytes += len(block)

    def _wait_for(self, low: int) -> Deferred[None]:
        """Return what fires once no more than `low` bytes wait (-1: and nothing runs)."""
        self._low = low
        self._waiter = Deferred()
        return self._waiter

    def _raise_error(self) -> None:
        if self._error is not None:
            raise self._error

    def _step(self) -> None:
        """Do one piece, in a thread, and give the thread to others before the next."""
        if not self._do_one():
            return
        try:
            self._executor.submit(self._step)
        except RuntimeError:  # the pool is being stopped and takes nothing new
            while self._do_one():
                pass

    def _do_one(self) -> bool:
        """Do one piece; tell whether there is another."""
        with self._lock:
            work, block = self._queue.popleft() if self._queue else (None, b"")
        try:
            if work is not None:
                work(block)
        except BaseException as error:
            self._error = error
        with self._lock:
            self._bytes -= len(block)
            if self._ended:
                self._error = None
            elif self._error is not None:
                self._queue.clear()
            more = self._running = bool(self._queue)
            if not more:
                self._bytes = 0
            fired = self._take_waiter()
        if fired is not None:
            self._reactor.callFromThread(fired.callback, None)
        return more

    def _take_waiter(self) -> Deferred[None] | None:
        if self._waiter is None or (self._running and (self._low < 0 or self._bytes > self._low)):
            return None
        waiter, self._waiter = self._waiter, None
        return waiter
