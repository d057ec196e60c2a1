"""Checks now and then whether what the service depends on works."""

import time
from collections.abc import Awaitable, Callable, Sequence

import attrs
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from imgservice.concurrency.reactor import Clock, looping_call
from imgservice.domain.errors import ImageServiceError
from imgservice.troubles import Troubles

TIMEOUT = 10.0
"""Seconds after which what has not answered counts as failing."""

_log = Logger()


@attrs.frozen
class Probe:
    """How to check one dependency."""

    key: str
    """The key of its troubles."""
    what: str
    look: Callable[[bool], Awaitable[None]]
    """Raise `ImageServiceError` when it does not work. With True, it was failing: check thoroughly,
    since success ends the trouble."""
    is_essential: bool = True
    only_in_trouble: bool = False
    """Whether to check it only after a request has found that it fails."""


class Probes:
    """A component that runs all probes, at most one at a time for each dependency."""

    def __init__(
        self,
        clock: Clock,
        probes: Sequence[Probe],
        troubles: Troubles,
        interval: float,
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        self._probes = probes
        self._troubles = troubles
        self._interval = interval
        self._seconds = seconds
        self._begun: dict[str, float] = {}
        self._is_ended = False
        self._looks = looping_call(clock, self._look)

    def start(self) -> None:
        """Begin, and clear troubles of what is not probed: nothing else would end them."""
        probed = {one.key for one in self._probes}
        for trouble in self._troubles.present:
            if trouble.is_essential and trouble.key not in probed:
                self._troubles.clear(trouble.key)
        self._looks.start(self._interval)

    def retire(self) -> None:
        """Probe no more, and ignore the results of probes that still run."""
        self._is_ended = True
        if self._looks.running:
            self._looks.stop()

    async def stop(self) -> None:
        self.retire()

    def _look(self) -> None:
        for probe in self._probes:
            is_failing = self._troubles.has(probe.key)
            if probe.key in self._begun:
                self._look_at_time(probe)
            elif is_failing or not probe.only_in_trouble:
                self._begin(probe, is_failing)

    def _look_at_time(self, probe: Probe) -> None:
        if self._seconds() - self._begun[probe.key] >= TIMEOUT:
            self._report(probe, f"no answer within {TIMEOUT:.0f} s")

    def _begin(self, probe: Probe, is_failing: bool) -> None:
        self._begun[probe.key] = self._seconds()

        async def look() -> None:
            await probe.look(is_failing)

        looking = Deferred.fromCoroutine(look())
        looking.addCallbacks(lambda _: self._works(probe), lambda why: self._fails(probe, why))
        looking.addBoth(lambda _: self._begun.pop(probe.key))

    def _works(self, probe: Probe) -> None:
        if not self._is_ended:
            self._troubles.clear(probe.key)

    def _fails(self, probe: Probe, failure: Failure) -> None:
        error = failure.value
        if not isinstance(error, ImageServiceError):
            if self._report(probe, type(error).__name__):
                _log.failure("The probe of {what} failed unexpectedly", failure, what=probe.what)
        elif not self._troubles.has(probe.key):  # else the failing request has told more
            self._report(probe, error.message)

    def _report(self, probe: Probe, why: str) -> bool:
        if self._is_ended:
            return False
        return self._troubles.report(probe.key, probe.what, why, probe.is_essential)
