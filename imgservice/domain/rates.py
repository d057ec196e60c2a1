"""How often, how fast and how many at a time is too much."""

from collections import Counter, OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

import attrs

MOST_KEYS = 50_000
"""Buckets of one kind that are remembered."""
LONGEST_KEY = 255
"""What keys have in common up to here shares a bucket."""
GRAIN = 1e-6
"""Seconds by which sums of moments may be wrong."""
LOOKED_AT = 2
"""Buckets that a newcomer has looked at, to be forgotten if they are full."""
CROWDED = 5.0
"""Seconds after which to ask again for a place that somebody else has."""


@attrs.frozen
class Rate:
    """So many a second in the long run, and `burst` at once after a pause."""

    per_second: float
    burst: float


@attrs.frozen
class ByteRate(Rate):
    """The same for bytes."""


class Buckets:
    """A bucket of tokens for each of many keys: it holds `burst`, and fills at the rate.

    Of a bucket we keep one number: the moment when it will be full again. A full bucket is the
    same as one that nobody knows, so what is kept are those in use, and at most `most` of them.
    When that is too few, the bucket that was left alone for longest goes, and whose it was has a
    full one again. Nobody gains by bringing that about: it takes requests of `most` others, and
    every one of these could have been what he was after.
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
        """Return in how many seconds the bucket will hold `count`; not above 0: it does now."""
        full_at = self._full_at.get(key[:LONGEST_KEY])
        # What is never there at once need not be there at once.
        missing = min(count, self.rate.burst) * self._each - self._depth
        return missing if full_at is None else missing + full_at - now

    def take(self, key: str, now: float, count: float = 1) -> None:
        """Take them whether or not they are there: what is lacking is owed."""
        key = key[:LONGEST_KEY]
        full_at = self._full_at.get(key)
        if full_at is None:
            self._make_room(now)
        else:
            self._full_at.move_to_end(key)
        self._full_at[key] = max(full_at or now, now) + count * self._each

    def give_back(self, key: str, now: float, count: float = 1) -> None:
        """Put back what was taken in vain."""
        key = key[:LONGEST_KEY]
        full_at = self._full_at.get(key)
        if full_at is None:
            return
        if full_at - count * self._each <= now:
            del self._full_at[key]
        else:
            self._full_at[key] = full_at - count * self._each

    def debt(self, key: str, now: float) -> float:
        """Return in how many seconds nothing will be owed any more."""
        return max(0.0, self.wait(key, now, 0))

    def _make_room(self, now: float) -> None:
        for _ in range(LOOKED_AT):
            oldest = next(iter(self._full_at), None)
            if oldest is None or (len(self) < self._most and self._full_at[oldest] > now):
                return
            del self._full_at[oldest]


class Places:
    """How many may do something at the same time, of each project and in all."""

    def __init__(self, in_all: int | None, of_each: int | None) -> None:
        self._in_all = in_all
        self._of_each = of_each
        self._taken: Counter[str] = Counter()
        self.taken = 0

    def are_all_taken(self) -> bool:
        return self._in_all is not None and self.taken >= self._in_all

    def are_taken(self, project: str) -> bool:
        """Tell whether the project has as many as it may have."""
        return self._of_each is not None and self._taken[project] >= self._of_each

    @contextmanager
    def one(self, project: str) -> Iterator[None]:
        """Have a place, be one free or not, for as long as the block runs."""
        self.taken += 1
        self._taken[project] += 1
        try:
            yield
        finally:
            self.taken -= 1
            self._taken[project] -= 1
            if not self._taken[project]:
                del self._taken[project]
