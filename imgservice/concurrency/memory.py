"""A limit of memory that several streams share."""

from collections import deque

from twisted.internet.defer import Deferred


class SharedMemory:
    """Counts bytes that are in use; whoever must have some waits for its turn."""

    def __init__(self, total: int) -> None:
        self.total = total
        self._free = total
        self._waiting: deque[tuple[int, Deferred[None]]] = deque()

    def take(self, size: int, most: int) -> int:
        """Take up to `most` pieces of this size, as many as there are now, and tell how many."""
        if self._waiting:
            return 0
        count = max(0, min(most, self._free // size))
        self._free -= count * size
        return count

    def need(self, size: int) -> Deferred[None]:
        """Return what fires when the bytes are taken, in the order of the calls.

        More than there are at all are had when nobody else has any. Cancelling gives up the turn.
        """
        taken: Deferred[None] = Deferred(lambda _: self._forget(taken))
        self._waiting.append((size, taken))
        self._serve()
        return taken

    def give_back(self, size: int) -> None:
        self._free += size
        self._serve()

    def _forget(self, taken: Deferred[None]) -> None:
        self._waiting = deque(one for one in self._waiting if one[1] is not taken)
        self._serve()

    def _serve(self) -> None:
        while self._waiting:
            size, taken = self._waiting[0]
            if self._free < min(size, self.total):
                return
            self._waiting.popleft()
            self._free -= size
            taken.callback(None)
