"""Waiting for Deferreds that belong to others."""

from typing import TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

T = TypeVar("T")


def after(running: Deferred[T]) -> Deferred[None]:
    """Return a Deferred that fires after `running`, and leave the result of that alone."""
    fired: Deferred[None] = Deferred()

    def fire(result: T | Failure) -> T | Failure:
        fired.callback(None)
        return result

    running.addBoth(fire)
    return fired
