"""The signals that end the service: the first one in peace, a second Ctrl-C at once."""

import os
import signal
from collections.abc import Callable
from typing import Any

from imgservice.concurrency.reactor import RunningReactor


class Ending:
    """Takes SIGINT and SIGTERM in the reactor's place, which fails when it is told to end twice."""

    def __init__(
        self, reactor: RunningReactor, interrupted: Callable[[], None], at_once: Callable[[], None]
    ) -> None:
        self._reactor = reactor
        self._interrupted = interrupted
        """Called with the first Ctrl-C, before anything ends."""
        self._at_once = at_once
        """Called with the second one, wherever this process is: what is left then is not done."""
        self._has_begun = False
        self._interrupts = 0

    def take_signals(self) -> None:
        """To be called when the reactor runs; a debugger's handler stays."""
        for number, present, handler in (
            (signal.SIGINT, self._reactor.sigInt, self._interrupt),
            (signal.SIGTERM, self._reactor.sigTerm, self._terminate),
        ):
            if signal.getsignal(number) == present:
                signal.signal(number, handler)

    def _interrupt(self, number: int, frame: Any) -> None:
        self._interrupts += 1
        if self._interrupts == 1:
            self._interrupted()
            self._begin(self._reactor.sigInt, number, frame)
        else:
            self._at_once()
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    def _terminate(self, number: int, frame: Any) -> None:
        self._begin(self._reactor.sigTerm, number, frame)

    def _begin(self, end: Callable[[int, Any], None], number: int, frame: Any) -> None:
        if not self._has_begun:
            self._has_begun = True
            end(number, frame)
