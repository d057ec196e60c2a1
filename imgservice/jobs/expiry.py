"""Find the leases that nobody renews any more, without relying on any wall clock."""

import time
from collections.abc import Callable, Mapping, Sequence

from imgservice.domain.job import Job

Marked = tuple[Job, object]
"""A job with a mark that each renewal of its lease changes."""


class LeaseExpiry:
    """Watches leases until they expire.

    A lease has expired once it was seen for `lease_time` seconds of our own monotonic clock without
    a renewal. So no wall clock, neither ours nor that of its owner or of the database, harms leases
    when it is set. The price: a process that has just started must watch first.
    """

    def __init__(self, lease_time: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._lease_time = lease_time
        self.clock = clock
        self._seen: Mapping[str, tuple[Marked, float]] = {}

    def expired(self, found: Sequence[Marked], asked_at: float) -> set[str]:
        """Note all leases that are watched; return the ids of those that have expired.

        They were read at some time between `asked_at` and now.
        """
        now = self.clock()
        self._seen = {one[0].id: (one, self._since(one, now)) for one in found}
        return {
            id_ for id_, (_, since) in self._seen.items() if asked_at - since >= self._lease_time
        }

    def forget(self) -> None:
        """Watch anew: the database could not be reached, and so nobody could renew a lease."""
        self._seen = {}

    def _since(self, one: Marked, now: float) -> float:
        before, since = self._seen.get(one[0].id, (None, now))
        return since if before == one else now
