"""Components that keep the leases of this process, and take over those of processes that died."""

from twisted.logger import Logger

from imgservice.concurrency.reactor import Clock
from imgservice.process.periodic import PeriodicWork
from imgservice.service.data import LEASE_TIME, DataService
from imgservice.troubles import Troubles

RECOVERY_INTERVAL = 30.0

_log = Logger()


class LeaseRenewal:
    """Renews our leases until the last handler has ended: no other process may take them before."""

    def __init__(self, clock: Clock, data: DataService, troubles: Troubles) -> None:
        self._work = PeriodicWork(clock, "Lease renewal", LEASE_TIME / 4, data.renew, troubles)

    def start(self) -> None:
        self._work.start()

    async def stop(self) -> None:
        self._work.stop()


class LeaseRecovery:
    """Finishes or undoes what processes that died have left behind."""

    def __init__(self, clock: Clock, data: DataService, troubles: Troubles) -> None:
        self.data = data
        self._work = PeriodicWork(
            clock, "Lease recovery", RECOVERY_INTERVAL, self._recover, troubles
        )

    def start(self) -> None:
        self._work.start()

    def retire(self) -> None:
        self._work.stop()

    async def stop(self) -> None:
        self._work.stop()

    async def _recover(self) -> None:
        settled = await self.data.recover()
        if settled:
            _log.info("Cleaned up {settled} operations of a process that died", settled=settled)
