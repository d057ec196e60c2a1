"""Work that is repeated as long as the service runs."""

from collections.abc import Awaitable, Callable

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from imgservice.concurrency.reactor import Clock, looping_call
from imgservice.domain.errors import Unavailable
from imgservice.troubles import Troubles

_log = Logger()


class PeriodicWork:
    """Calls `work` at once and then in every `interval`, unless the last call still runs.

    A failure is logged and reported as a trouble until a later call succeeds.
    """

    def __init__(
        self,
        clock: Clock,
        name: str,
        interval: float,
        work: Callable[[], Awaitable[object]],
        troubles: Troubles,
    ) -> None:
        self._name = name
        self._interval = interval
        self._work = work
        self._troubles = troubles
        self._calls = looping_call(clock, lambda: Deferred.fromCoroutine(self._call()))

    def start(self) -> None:
        self._calls.start(self._interval)

    def stop(self) -> None:
        """Call no more; a call that runs goes on. Harmless when nothing was started."""
        if self._calls.running:
            self._calls.stop()

    async def _call(self) -> None:
        try:
            await self._work()
        except Unavailable:
            return  # what is not available reports itself
        except Exception as error:
            if self._troubles.report(
                self._name, self._name, type(error).__name__, is_essential=False
            ):
                _log.failure("{name} failed, retrying", name=self._name)
        else:
            self._troubles.clear(self._name)
