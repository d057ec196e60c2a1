"""The parent of worker processes: starts them, replaces them, never serves itself."""

import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from twisted.internet.defer import Deferred, DeferredList
from twisted.logger import Logger
from twisted.python.failure import Failure

from imgservice.concurrency.deferreds import after
from imgservice.concurrency.reactor import Reactor, looping_call, sleep
from imgservice.config.sections import Config
from imgservice.process.forking import ForkServer
from imgservice.process.messages import Beat, Close, Give, Leaving, Message, SetHealth, Take
from imgservice.process.phases import WorkerState
from imgservice.process.processors import worker_count
from imgservice.process.setup import Setup
from imgservice.process.slots import Slot, Slots
from imgservice.process.sockets import Change, Sockets
from imgservice.process.tls.material import TlsMaterial
from imgservice.process.worker_pool import UnderWay, WorkerPoolError, WorkerReport, in_all
from imgservice.process.worker_process import Worker
from imgservice.troubles import TroubleLog

LOOK = 1.0
"""Seconds between two looks at the workers."""
START_TIME = 120.0
"""Seconds that a worker has to start."""
STEADY = 10.0
"""Seconds after which a worker has not failed to start."""
MOST_FAILURES = 4
"""Failed starts in a row after which, if nobody serves any more, the service gives up."""
TRIES = 3
SILENCE = 5.0
"""Seconds after which systemd is told that a silent worker hangs, where nothing replaces it."""
KILL_TIME = 5.0
"""Seconds beyond the grace after which a worker that should end is killed."""

_log = Logger()


class Workers:
    """The worker pool of several processes."""

    def __init__(
        self,
        reactor: Reactor,
        count: int,
        forks: ForkServer,
        log_file: Callable[[Config], str | None],
        give_up: Callable[[str], None],
    ) -> None:
        self.slots = count
        self.trouble: str | None = None
        self.troubles = TroubleLog()
        self._reactor = reactor
        self._forks = forks
        self._log_file = log_file
        self._give_up = give_up
        """Called with the reason when no worker can serve any more."""
        self._slots = Slots(count)
        self._others: set[Worker] = set()
        """Workers that retire or stop, or are not yet ready."""
        self._is_stopping = False
        self._is_proving = False
        """Whether the first worker of another setup has yet to show that it can serve."""
        self._is_closed = False
        self._is_well = True
        self._looked = 0.0
        self._looks = looping_call(reactor, self._look)

    def count(self, setup: Setup) -> int:
        return worker_count(setup.config)

    # -- starting ---------------------------------------------------------------------------------

    async def start(self, setup: Setup, sockets: Sockets) -> None:
        self._setup, self._sockets, self._tls = setup, sockets, setup.tls
        self._looked = time.monotonic()
        self._looks.start(LOOK, now=False)
        began = [Deferred.fromCoroutine(self._fill(slot)) for slot in self._slots]
        outcomes = await DeferredList(began, consumeErrors=True)
        reasons = [_reason(result) for succeeded, result in outcomes if not succeeded]
        if len(reasons) == len(self._slots):
            raise WorkerPoolError(reasons[0])
        for slot in self._slots:
            if not slot.is_served and slot.retry is None:
                self._try_again(slot)

    async def _fill(self, slot: Slot) -> None:
        """Start a worker in the slot; `WorkerPoolError` when it does not come to serve."""
        if self._is_stopping:
            raise WorkerPoolError("the service is ending")
        worker = Worker(self._reactor, slot.index, self._setup, self._heard)
        slot.coming = worker
        self._others.add(worker)
        worker.ended.addCallback(lambda _: self._ended(worker))
        log_file = self._log_file(self._setup.config)
        worker.start(self._forks, log_file, self._sockets.of(slot.index))
        try:
            await worker.ready
        finally:
            slot.coming = None
            if worker.was_killed:  # which tells nothing of whether it could have started
                slot.forgive()
        self._promote(slot, worker)

    def _promote(self, slot: Slot, worker: Worker) -> None:
        self._others.discard(worker)
        slot.worker = worker
        if self._tls is not None and worker.tls is not self._tls:
            worker.set_tls(self._tls)
        if not self._is_well:
            worker.send(SetHealth(False))
        if self._is_closed:
            worker.send(Close())
        if self._slots.are_all_served:
            self.trouble = None
        self._arrange()

    # -- when one ends ----------------------------------------------------------------------------

    def _ended(self, worker: Worker) -> None:
        self._others.discard(worker)
        self.troubles.forget(worker)
        slot = self._slots.of(worker)
        if slot is None or self._is_stopping:
            return
        slot.worker = None
        self._arrange()
        slot.forgive(is_steady=time.monotonic() - worker.began > STEADY)
        _log.error("Worker {pid} ended unexpectedly: {why}", pid=worker.pid, why=worker.why)
        self.trouble = f"worker {worker.pid} ended unexpectedly: {worker.why}"
        self._try_again(slot)

    def _try_again(self, slot: Slot) -> None:
        """Start another worker: at once the first time, then after growing pauses."""
        if slot.retry is not None or self._is_stopping:
            return
        slot.retry = self._reactor.callLater(slot.next_pause(), self._retry, slot)

    def _retry(self, slot: Slot) -> None:
        slot.retry = None
        if self._is_stopping or slot not in self._slots or slot.is_served or slot.coming:
            return
        if self._is_proving:
            slot.retry = self._reactor.callLater(LOOK, self._retry, slot)
            return
        Deferred.fromCoroutine(self._fill(slot)).addErrback(self._failed_again, slot)

    def _failed_again(self, failure: Failure, slot: Slot) -> None:
        failure.trap(WorkerPoolError)
        if self._is_stopping:
            return
        _log.error("A worker failed to start: {why}", why=failure.getErrorMessage())
        self.trouble = f"a worker failed to start: {failure.getErrorMessage()}"
        if slot.failures >= MOST_FAILURES and not self._slots.ready:
            self._give_up(f"no worker can start: {failure.getErrorMessage()}")
        self._try_again(slot)

    def _arrange(self) -> None:
        """See that a worker accepts on the sockets of every slot."""
        if not self._is_closed and not self._is_stopping:
            self._slots.arrange(self._sockets)

    # -- watching them ----------------------------------------------------------------------------

    def _look(self) -> None:
        limit = self._setup.config.server.hang_limit
        now = time.monotonic()
        # While this process stood still, it heard nothing, and they may have stood still, too.
        lost, self._looked = max(0.0, now - self._looked - LOOK), now
        for worker in [*self._slots.ready, *self._others]:
            worker.last_sign = max(worker.last_sign, min(now, worker.last_sign + lost))
            allowed = max(limit, START_TIME) if worker.state is WorkerState.STARTING else limit
            if limit and now - worker.last_sign > allowed:
                worker.kill_hanging(now - worker.last_sign)

    def _heard(self, worker: Worker, message: Message, descriptors: Sequence[int]) -> None:
        match message:
            case Beat():
                self.troubles.update(worker, message.troubles)
            case Give():
                self._pass_on(descriptors)
            case Leaving():
                self._left(worker)

    def _left(self, worker: Worker) -> None:
        """Start another worker in its place: a signal from outside ends it."""
        slot = self._slots.of(worker)
        if slot is None or self._is_stopping:
            return
        slot.worker = None
        worker.state = WorkerState.RETIRING
        self._others.add(worker)
        self._arrange()
        self._try_again(slot)

    def _pass_on(self, descriptors: Sequence[int]) -> None:
        """Pass a connection of a retiring worker on to another one."""
        newest = max((one.setup.generation for one in self._slots.ready), default=0)
        able = [one for one in self._slots.ready if one.setup.generation == newest]
        taker = min(able, key=lambda one: one.connections, default=None)
        if taker is None:
            for one in descriptors:
                os.close(one)
            return
        taker.connections += 1
        taker.send(Take(), descriptors)

    # -- another setup ----------------------------------------------------------------------------

    async def change(self, setup: Setup, sockets: Sockets, change: Change) -> None:
        before, count = self._setup, len(self._slots)
        wanted = self.slots = self.count(setup)
        change.begin()
        self._setup, self._is_proving = setup, True
        try:
            await self._succeed(self._slots.at(0), change)
        except WorkerPoolError:
            self._setup, self.slots = before, count
            change.undo()
            raise
        finally:
            self._is_proving = False
        self._tls = setup.tls
        for index in range(1, wanted):
            await self._succeed_at_last(self._slots.at(index), change)
        for slot in self._slots.cut(wanted):
            change.close_left(slot.index)
            if slot.worker is not None:
                self._retire(slot.worker, None)
        self._arrange()

    async def _succeed_at_last(self, slot: Slot, change: Change) -> None:
        """Replace the slot's worker by one of the new setup, with which another serves already."""
        for attempt in range(0 if self._is_stopping else TRIES):
            try:
                await self._succeed(slot, change)
            except WorkerPoolError as error:
                _log.error("A worker failed to start: {error}", error=error)
                await sleep(self._reactor, 2.0**attempt)
            else:
                return
        change.close_left(slot.index)
        if slot.worker is None:
            self._try_again(slot)

    async def _succeed(self, slot: Slot, change: Change) -> None:
        before = slot.worker
        if slot.coming is not None:  # a restart is under way, with whichever setup
            with suppress(WorkerPoolError):
                await slot.coming.ready
            before = slot.worker
        if before is None or before.setup is not self._setup:
            await self._fill(slot)
        change.close_left(slot.index)
        if before is not None and before is not slot.worker:
            self._retire(before, sorted(change.removed))

    def _retire(self, worker: Worker, removed: Sequence[str] | None) -> None:
        if worker.has_ended:
            return
        self._others.add(worker)
        same_tls = (worker.setup.tls is None) == (self._setup.tls is None)
        worker.retire(removed, self._setup.config.server.reload_grace, same_tls)
        self._arrange()

    def set_tls(self, material: TlsMaterial) -> None:
        self._tls = material
        for worker in [*self._slots.ready, *self._others]:
            worker.set_tls(material)

    # -- leaving ----------------------------------------------------------------------------------

    def set_health(self, is_well: bool) -> None:
        self._is_well = is_well
        for worker in self._slots.ready:
            worker.send(SetHealth(is_well))

    async def close(self) -> None:
        self._is_closed = True
        for worker in self._slots.ready:
            worker.send(Close())

    def reopen(self, sockets: Sockets) -> None:
        self._is_closed = False
        self._slots.forget_substitutes()
        for slot in self._slots:
            if slot.worker is not None:
                slot.worker.listen(slot.index, sockets.of(slot.index))
        self._arrange()

    async def stop(self, grace: float) -> None:
        self._is_stopping = True
        if self._looks.running:
            self._looks.stop()
        workers = self._all()
        for slot in self._slots:
            if slot.retry is not None:
                slot.retry.cancel()
        for worker in workers:
            worker.stop(grace)
        late = [self._reactor.callLater(grace + KILL_TIME, one.kill) for one in workers]
        await DeferredList([after(worker.ended) for worker in workers])
        for call in late:
            if call.active():
                call.cancel()
        await self._forks.stop()

    def _all(self) -> list[Worker]:
        return [*self._slots.workers, *self._others]

    def kill(self) -> None:
        self._is_stopping = True
        for worker in self._all():
            worker.kill()
        self._forks.kill()

    # -- reporting --------------------------------------------------------------------------------

    @property
    def under_way(self) -> UnderWay:
        return in_all(one.under_way for one in self._all())

    def report(self) -> Sequence[WorkerReport]:
        workers = sorted(self._all(), key=lambda one: (one.slot, one.since))
        return [one.report() for one in workers]

    @property
    def is_alive(self) -> bool:
        limit = self._setup.config.server.hang_limit or SILENCE
        now = time.monotonic()
        return any(now - one.last_sign < limit for one in self._slots.ready)


def _reason(result: object) -> str:
    return result.getErrorMessage() if isinstance(result, Failure) else str(result)
