"""The signals that end the service: gracefully, or at once after a second Ctrl-C."""

import os
import signal
from collections.abc import Callable
from types import FrameType

from imgservice.concurrency.reactor import RunningReactor

Handler = Callable[[int, FrameType | None], None]


class Ending:
    """Takes SIGINT and SIGTERM in place of the reactor, which cannot be told to end twice."""

    def __init__(
        self, reactor: RunningReactor, interrupted: Callable[[], None], at_once: Callable[[], None]
    ) -> None:
        self._reactor = reactor
        self._interrupted = interrupted
        """Called with the first Ctrl-C, before anything ends."""
        self._at_once = at_once
        """Called with the second one, at any point of the program; nothing is done after it."""
        self._has_begun = False
        self._interrupts = 0

    def take_signals(self) -> None:
        """To be called when the reactor runs. The handler of a debugger is left in place."""
        for number, present, handler in (
            (signal.SIGINT, self._reactor.sigInt, self._interrupt),
            (signal.SIGTERM, self._reactor.sigTerm, self._terminate),
        ):
            if signal.getsignal(number) == present:
                signal.signal(number, handler)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        self._interrupts += 1
        if self._interrupts == 1:
            self._interrupted()
            self._begin(self._reactor.sigInt, number, frame)
        else:
            self._at_once()
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    def _terminate(self, number: int, frame: FrameType | None) -> None:
        self._begin(self._reactor.sigTerm, number, frame)

    def _begin(
        self, end: Callable[[int, FrameType | None], None], number: int, frame: FrameType | None
    ) -> None:
        if not self._has_begun:
            self._has_begun = True
            end(number, frame)
