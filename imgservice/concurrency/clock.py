"""The clock of the reactor's timers."""

import time

from imgservice.concurrency.reactor import Reactor


def make_monotonic(reactor: Reactor) -> None:
    """Let the reactor's timers run on the monotonic clock; to be called before any is set.

    Twisted's own choice is the wall clock. An administrator, or NTP, who sets that one would end
    every timeout at once, or not for as long as the clock was set back.
    """
    if reactor.seconds is time.monotonic:
        return
    if reactor.getDelayedCalls():
        raise RuntimeError("The reactor's clock cannot be changed: timers run already.")
    reactor.seconds = time.monotonic  # type: ignore[method-assign]
