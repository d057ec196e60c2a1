"""Logs where this process hangs when its reactor does not turn."""

import faulthandler
import os
import time
from collections.abc import Callable

from twisted.application.service import Service
from twisted.logger import Logger

from imgservice.concurrency.reactor import Clock, looping_call

LOOK = 1.0
"""Seconds between two signs of life."""

_log = Logger()


class Watchdog(Service):
    """Writes the stacks of all threads after `limit` seconds without a sign of life; 0: never.

    A thread that needs neither the reactor nor the interpreter lock writes them, as plain text.
    """

    def __init__(self, clock: Clock, limit: float, descriptor: Callable[[], int]) -> None:
        self.limit = limit
        """May be changed at any time."""
        self._descriptor = descriptor
        """Returns what the log is written to at present."""
        self._own = -1
        self._last_sign = 0.0
        self._signs = looping_call(clock, self._sign)

    def startService(self) -> None:
        super().startService()
        # The log may close its descriptor, and another file may get its number.
        self._own = os.dup(self._descriptor())
        self._last_sign = time.monotonic()
        self._signs.start(LOOK)

    def stopService(self) -> None:
        super().stopService()
        if self._signs.running:
            self._signs.stop()
            faulthandler.cancel_dump_traceback_later()
            os.close(self._own)

    def _sign(self) -> None:
        now = time.monotonic()
        before, self._last_sign = self._last_sign, now
        if not self.limit:
            faulthandler.cancel_dump_traceback_later()
            return
        os.dup2(self._descriptor(), self._own, inheritable=False)
        limit = max(self.limit, 2 * LOOK)  # less would find a hang between any two signs
        faulthandler.dump_traceback_later(limit, file=self._own)
        if now - before > limit:
            _log.error(
                "The reactor did not turn for {seconds:.0f} seconds; where it was stuck is written"
                " above, after 'Timeout'",
                seconds=now - before,
            )
