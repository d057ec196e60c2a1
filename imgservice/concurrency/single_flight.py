"""Work that several callers wait for and that is done once."""

from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

K = TypeVar("K")
V = TypeVar("V")


class SingleFlight(Generic[K, V]):
    """Lets callers who want the same at the same time share one piece of work."""

    def __init__(self) -> None:
        self._waiting: dict[K, list[Deferred[V]]] = {}

    def __len__(self) -> int:
        """Return how many pieces of work are running."""
        return len(self._waiting)

    def __contains__(self, key: K) -> bool:
        return key in self._waiting

    def share(self, key: K, start: Callable[[], Coroutine[Any, Any, V]]) -> Deferred[V]:
        """Return the result of the work; start it unless it is running.

        Cancelling the result stops the waiting, and not the work.
        """
        waiter: Deferred[V] = Deferred()
        waiters = self._waiting.get(key)
        if waiters is not None:
            waiters.append(waiter)
            return waiter
        self._waiting[key] = [waiter]
        Deferred.fromCoroutine(start()).addBoth(self._tell, key)
        return waiter

    def _tell(self, result: V | Failure, key: K) -> None:
        for waiter in self._waiting.pop(key):
            if waiter.called:
                continue
            if isinstance(result, Failure):
                waiter.errback(result)
            else:
                waiter.callback(result)
