"""Logging of what may happen often."""

from imgservice.concurrency.reactor import Clock

SILENCE = 60.0
"""Seconds in which the same thing is logged once."""


class LogLimit:
    """Counts events of one kind, and tells when to log how many there were."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._logged_at: float | None = None
        self._count = 0

    def due(self) -> int:
        """Count an event; return how many to log now, or 0 so soon after the last time."""
        self._count += 1
        now = self._clock.seconds()
        if self._logged_at is not None and now - self._logged_at < SILENCE:
            return 0
        self._logged_at = now
        count, self._count = self._count, 0
        return count
