"""Waiting for what other code of the same thread will do."""

from twisted.internet.defer import Deferred


class WakeUp:
    """Lets one coroutine at a time wait until it is woken; waking without a waiter does nothing."""

    def __init__(self) -> None:
        self._waiter: Deferred[None] | None = None

    @property
    def is_awaited(self) -> bool:
        return self._waiter is not None

    def wait(self) -> Deferred[None]:
        """Return what fires at the next `wake`."""
        self._waiter = Deferred()
        return self._waiter

    def wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.called:  # called: it was cancelled, or timed out
            waiter.callback(None)
