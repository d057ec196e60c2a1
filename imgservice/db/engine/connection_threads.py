"""Threads that own a connection each, and the way of their results to the reactor."""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from imgservice.concurrency.reactor import ThreadedReactor
from imgservice.db.engine.blocking import Session

T = TypeVar("T")


class Completions:
    """Carries results from threads to the reactor, many with one wake-up."""

    def __init__(self, reactor: ThreadedReactor) -> None:
        self._reactor = reactor
        self._done: deque[Callable[[], object]] = deque()
        self._woken = False

    def add(self, completion: Callable[[], object]) -> None:
        """Call `completion` in the reactor's thread."""
        self._done.append(completion)
        # Two threads may both wake the reactor: that is harmless. None may rely on a wake-up
        # that is already being served: `_deliver` takes the flag back before it looks.
        if not self._woken:
            self._woken = True
            self._reactor.callFromThread(self._deliver)

    def _deliver(self) -> None:
        self._woken = False
        while self._done:
            self._done.popleft()()


class ConnectionThreads:
    """Threads that share one queue, each with a session of its own."""

    def __init__(self, sessions: Sequence[Session], completions: Completions, name: str) -> None:
        self._queue: SimpleQueue[Callable[[Session], None] | None] = SimpleQueue()
        self._sessions = sessions
        self._completions = completions
        self._name = name
        self._ended: list[Deferred[None]] = []

    def submit(self, work: Callable[[Session], T]) -> Deferred[T]:
        """Call `work` in the next free thread; cancelling stops what has not begun."""
        if not self._ended:
            self._start()
        waiting: Deferred[T] = Deferred()

        def run(session: Session) -> None:
            if not waiting.called:  # nobody has cancelled it meanwhile
                outcome = _outcome(work, session)
                self._completions.add(lambda: waiting.callback(outcome))  # ignored when cancelled

        self._queue.put(run)
        return waiting

    async def close(self) -> None:
        """Let all that was submitted end, then close the sessions and the threads."""
        for _ in self._ended:
            self._queue.put(None)
        for ended in self._ended:
            await ended

    def _start(self) -> None:
        """Start the threads; not before there is work, because a daemon forks and loses them."""
        self._ended = [Deferred() for _ in self._sessions]
        for number, arguments in enumerate(zip(self._sessions, self._ended, strict=True)):
            name = f"{self._name}-{number}"
            threading.Thread(target=self._serve, args=arguments, name=name, daemon=True).start()

    def _serve(self, session: Session, ended: Deferred[None]) -> None:
        while job := self._queue.get():
            job(session)
            del job  # or its result would live until the next one comes
        session.close()
        self._completions.add(lambda: ended.callback(None))


def _outcome(work: Callable[[Session], T], session: Session) -> T | Failure:
    try:
        return work(session)
    except BaseException:
        return Failure()  # type: ignore[no-untyped-call]
