"""Limits on rates, and on the number of things at the same time."""

from collections import Counter, OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

import attrs

MOST_KEYS = 50_000
"""The number of buckets of one kind that are kept."""
LONGEST_KEY = 255
"""Keys that are equal up to this length share a bucket."""
GRAIN = 1e-6
"""Seconds by which floating-point sums may be wrong."""
LOOKED_AT = 2
"""How many buckets each new one checks, and drops if they are full."""
CROWDED = 5.0
"""Seconds after which to retry when all places are taken."""


@attrs.frozen
class Rate:
    """This many per second in the long run, and up to `burst` at once after a pause."""

    per_second: float
    burst: float


@attrs.frozen
class ByteRate(Rate):
    """A rate in bytes."""


class Buckets:
    """A token bucket for each of many keys: it holds `burst` tokens, and fills at the rate.

    A bucket is one number: the time when it will be full again. A full bucket is the same as none,
    so only those in use are kept, and at most `most` of them. When there are more, the one that was
    unused for longest is dropped, so that its key has a full one again. Nobody gains by provoking
    that: it takes a request with each of `most` other keys.
    """

    def __init__(self, rate: Rate, most: int = MOST_KEYS) -> None:
        self.rate = rate
        self._most = most
        self._each = 1 / rate.per_second
        self._depth = rate.burst / rate.per_second + GRAIN
        self._full_at: OrderedDict[str, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._full_at)

    def wait(self, key: str, now: float, count: float = 1) -> float:
        """Return the seconds until the bucket holds `count`; 0 or less if it does now."""
        full_at = self._full_at.get(key[:LONGEST_KEY])
        # More than `burst` is never there at once.
        missing = min(count, self.rate.burst) * self._each - self._depth
        return missing if full_at is None else missing + full_at - now

    def take(self, key: str, now: float, count: float = 1) -> None:
        """Take tokens even if there are too few: the rest is owed."""
        key = key[:LONGEST_KEY]
        full_at = self._full_at.get(key)
        if full_at is None:
            self._make_room(now)
        else:
            self._full_at.move_to_end(key)
        self._full_at[key] = max(full_at or now, now) + count * self._each

    def give_back(self, key: str, now: float, count: float = 1) -> None:
        """Put back tokens that were not used."""
        key = key[:LONGEST_KEY]
        full_at = self._full_at.get(key)
        if full_at is None:
            return
        if full_at - count * self._each <= now:
            del self._full_at[key]
        else:
            self._full_at[key] = full_at - count * self._each

    def debt(self, key: str, now: float) -> float:
        """Return the seconds until nothing is owed."""
        return max(0.0, self.wait(key, now, 0))

    def _make_room(self, now: float) -> None:
        for _ in range(LOOKED_AT):
            oldest = next(iter(self._full_at), None)
            if oldest is None or (len(self) < self._most and self._full_at[oldest] > now):
                return
            del self._full_at[oldest]


class Places:
    """Limits how many do something at the same time, in each project and in all."""

    def __init__(self, in_all: int | None, of_each: int | None) -> None:
        self._in_all = in_all
        self._of_each = of_each
        self._taken: Counter[str] = Counter()
        self.taken = 0

    def are_all_taken(self) -> bool:
        return self._in_all is not None and self.taken >= self._in_all

    def are_taken(self, project: str) -> bool:
        """Tell whether all places of the project are taken."""
        return self._of_each is not None and self._taken[project] >= self._of_each

    @contextmanager
    def one(self, project: str) -> Iterator[None]:
        """Take a place, free or not, while the block runs."""
        self.taken += 1
        self._taken[project] += 1
        try:
            yield
        finally:
            self.taken -= 1
            self._taken[project] -= 1
            if not self._taken[project]:
                del self._taken[project]
