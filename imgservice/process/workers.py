"""The parent of worker processes: starts them, replaces them, never serves itself."""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

from twisted.internet.defer import Deferred, DeferredList
from twisted.logger import Logger

from imgservice.concurrency.reactor import DelayedCall, Reactor, looping_call, sleep
from imgservice.config.sections import Config
from imgservice.process.serving import UnderWay
from imgservice.process.setup import Setup
from imgservice.process.sockets import Change, ListeningSocket, Sockets
from imgservice.process.tls import TlsMaterial
from imgservice.process.worker_pool import WorkerPoolError, in_all
from imgservice.process.worker_process import Worker
from imgservice.troubles import Trouble, TroubleLog

LOOK = 1.0
"""Seconds between two looks at the workers."""
START_TIME = 120.0
"""Seconds that a worker has to start."""
STEADY = 10.0
"""Seconds after which a worker has not failed to start."""
LONGEST_PAUSE = 30.0
MOST_AFTER_SERVING = 1
"""Failed starts that are held against a slot whose worker has served, or was killed from outside:
it may try again soon, but not without a pause."""
MOST_FAILURES = 4
"""Failed starts in a row after which, if nobody serves any more, the service gives up."""
TRIES = 3
SILENCE = 5.0
"""Seconds after which we say so that a worker is silent, where nothing replaces it."""
KILL_TIME = 5.0
"""Seconds beyond the grace after which a worker that should end is killed."""

_log = Logger()


class Slot:
    """A place for one worker, with sockets of its own."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.worker: Worker | None = None
        """The one that serves."""
        self.coming: Worker | None = None
        self.substitute: Worker | None = None
        """Another slot's worker that accepts for this one meanwhile."""
        self.failures = 0
        self.retry: DelayedCall | None = None

    @property
    def is_served(self) -> bool:
        return self.worker is not None and self.worker.state == "ready"


class Workers:
    """The worker pool of several processes."""

    def __init__(
        self,
        reactor: Reactor,
        count: int,
        command: Sequence[str],
        log_file: Callable[[Config], str | None],
        give_up: Callable[[str], None],
    ) -> None:
        self.slots = count
        self.trouble: str | None = None
        self.troubles = TroubleLog()
        self._reactor = reactor
        self._command = command
        self._log_file = log_file
        self._give_up = give_up
        """Called with the reason when nobody can serve any more."""
        self._slots = [Slot(index) for index in range(count)]
        self._others: set[Worker] = set()
        """Workers that retire or stop, or are not yet ready."""
        self._is_stopping = False
        self._is_proving = False
        self._is_closed = False
        self._is_well = True
        self._looks = looping_call(reactor, self._look)

    def count(self, setup: Setup) -> int:
        return worker_count(setup.config)

    # -- starting ---------------------------------------------------------------------------------

    async def start(self, setup: Setup, sockets: Sockets) -> None:
        self._setup, self._sockets, self._tls = setup, sockets, setup.tls
        self._looks.start(LOOK, now=False)
        began = [Deferred.fromCoroutine(self._fill(slot)) for slot in self._slots]
        outcomes = await DeferredList(began, consumeErrors=True)
        reasons = [str(cast(Any, result).value) for succeeded, result in outcomes if not succeeded]
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
        name = [*self._command, f"slot={slot.index}", f"generation={self._setup.generation}"]
        worker.spawn(name, self._log_file(self._setup.config), self._sockets.of(slot.index))
        try:
            await worker.ready
        finally:
            slot.coming = None
            if worker.was_killed:  # which tells nothing of whether it could have started
                slot.failures = min(slot.failures, MOST_AFTER_SERVING)
        self._promote(slot, worker)

    def _promote(self, slot: Slot, worker: Worker) -> None:
        self._others.discard(worker)
        slot.worker = worker
        if self._tls is not None and worker.tls is not self._tls:
            worker.set_tls(self._tls)
        if not self._is_well:
            worker.send("health", well=False)
        if self._is_closed:
            worker.send("close")
        if all(one.is_served for one in self._slots):
            self.trouble = None
        self._arrange()

    # -- when one ends ----------------------------------------------------------------------------

    def _ended(self, worker: Worker) -> None:
        self._others.discard(worker)
        self.troubles.forget(worker)
        slot = next((one for one in self._slots if one.worker is worker), None)
        if slot is None or self._is_stopping:
            return
        slot.worker = None
        self._arrange()
        steady = time.monotonic() - worker.began > STEADY
        slot.failures = 0 if steady else min(slot.failures, MOST_AFTER_SERVING)
        _log.error("Worker {pid} is gone: {why}", pid=worker.pid, why=worker.why)
        self.trouble = f"worker {worker.pid} is gone: {worker.why}"
        self._try_again(slot)

    def _try_again(self, slot: Slot) -> None:
        """Start another worker: at once the first time, then after growing pauses."""
        if slot.retry is not None or self._is_stopping:
            return
        pause = min(LONGEST_PAUSE, 2.0 ** (slot.failures - 2)) if slot.failures else 0.0
        slot.failures += 1
        slot.retry = self._reactor.callLater(pause, self._retry, slot)

    def _retry(self, slot: Slot) -> None:
        slot.retry = None
        if self._is_stopping or slot not in self._slots or slot.is_served or slot.coming:
            return
        if self._is_proving:
            slot.retry = self._reactor.callLater(LOOK, self._retry, slot)
            return
        Deferred.fromCoroutine(self._fill(slot)).addErrback(self._failed_again, slot)

    def _failed_again(self, failure: Any, slot: Slot) -> None:
        failure.trap(WorkerPoolError)
        if self._is_stopping:
            return
        _log.error("A worker cannot start: {why}", why=failure.getErrorMessage())
        self.trouble = f"a worker cannot start: {failure.getErrorMessage()}"
        if slot.failures >= MOST_FAILURES and not any(one.is_served for one in self._slots):
            self._give_up(f"no worker can start: {failure.getErrorMessage()}")
        self._try_again(slot)

    def _arrange(self) -> None:
        """See that somebody accepts at every slot's sockets."""
        if self._is_closed or self._is_stopping:
            return
        for slot in self._slots:
            if slot.substitute and (slot.is_served or slot.substitute.state != "ready"):
                slot.substitute.send("unlisten", key=slot.index)
                slot.substitute = None
            if not slot.is_served and slot.substitute is None:
                slot.substitute = self._least_burdened()
                if slot.substitute is not None:
                    slot.substitute.listen(slot.index, self._divisible(slot.index))

    def _divisible(self, slot: int) -> list[ListeningSocket]:
        return [one for one in self._sockets.of(slot) if one[0].is_divisible]

    def _ready(self) -> list[Worker]:
        return [one.worker for one in self._slots if one.worker is not None and one.is_served]

    def _least_burdened(self) -> Worker | None:
        burden = [one.substitute for one in self._slots]
        return min(self._ready(), key=lambda one: (burden.count(one), one.slot), default=None)

    # -- looking after them -----------------------------------------------------------------------

    def _look(self) -> None:
        limit = self._setup.config.server.hang_limit
        now = time.monotonic()
        for worker in [*self._ready(), *self._others]:
            allowed = max(limit, START_TIME) if worker.state == "starting" else limit
            if limit and now - worker.last_sign > allowed:
                worker.replace_stuck(now - worker.last_sign)

    def _heard(
        self, worker: Worker, message: Mapping[str, Any], descriptors: Sequence[int]
    ) -> None:
        match message["say"]:
            case "beat":
                self.troubles.update(worker, [Trouble(**one) for one in message["troubles"]])
            case "give":
                self._pass_on(descriptors)
            case "leaving":
                self._left(worker)

    def _left(self, worker: Worker) -> None:
        """Somebody told it to end: it accepts no more, and another one takes its place."""
        slot = next((one for one in self._slots if one.worker is worker), None)
        if slot is None or self._is_stopping:
            return
        slot.worker = None
        worker.state = "retiring"
        self._others.add(worker)
        self._arrange()
        self._try_again(slot)

    def _pass_on(self, descriptors: Sequence[int]) -> None:
        """Give a connection of a worker that retires to another one."""
        newest = max((one.setup.generation for one in self._ready()), default=0)
        able = [one for one in self._ready() if one.setup.generation == newest]
        taker = min(able, key=lambda one: one.connections, default=None)
        if taker is None:
            for one in descriptors:
                os.close(one)
            return
        taker.connections += 1
        taker.send("take", descriptors)

    # -- another setup ----------------------------------------------------------------------------

    async def change(self, setup: Setup, sockets: Sockets, change: Change) -> None:
        before, count = self._setup, len(self._slots)
        wanted = self.slots = self.count(setup)
        change.begin()
        self._setup, self._is_proving = setup, True
        try:
            await self._succeed(self._slots[0], change)
        except WorkerPoolError:
            self._setup, self.slots = before, count
            change.undo()
            raise
        finally:
            self._is_proving = False
        self._tls = setup.tls
        for index in range(1, wanted):
            if index == len(self._slots):
                self._slots.append(Slot(index))
            await self._succeed_at_last(self._slots[index], change)
        for slot in self._slots[wanted:]:
            self._slots.remove(slot)
            change.close_left(slot.index)
            if slot.worker is not None:
                self._retire(slot.worker, None)
        self._arrange()

    async def _succeed_at_last(self, slot: Slot, change: Change) -> None:
        """Replace the slot's worker by one of the new setup, which others have shown to work."""
        for attempt in range(0 if self._is_stopping else TRIES):
            try:
                await self._succeed(slot, change)
            except WorkerPoolError as error:
                _log.error("A worker cannot start: {error}", error=error)
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
        for worker in [*self._ready(), *self._others]:
            worker.set_tls(material)

    # -- leaving ----------------------------------------------------------------------------------

    def set_health(self, is_well: bool) -> None:
        self._is_well = is_well
        for worker in self._ready():
            worker.send("health", well=is_well)

    async def close(self) -> None:
        self._is_closed = True
        for worker in self._ready():
            worker.send("close")

    def reopen(self, sockets: Sockets) -> None:
        self._is_closed = False
        for slot in self._slots:
            slot.substitute = None
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
        await DeferredList([_after(worker.ended) for worker in workers])
        for call in late:
            if call.active():
                call.cancel()

    def _all(self) -> list[Worker]:
        return [*(one.worker for one in self._slots if one.worker), *self._others]

    def kill(self) -> None:
        self._is_stopping = True
        for worker in self._all():
            worker.kill()

    # -- telling ----------------------------------------------------------------------------------

    @property
    def under_way(self) -> UnderWay:
        return in_all(one.under_way for one in self._all())

    def report(self) -> Sequence[dict[str, Any]]:
        present = [one.worker for one in self._slots if one.worker is not None]
        return [
            {
                "slot": one.slot,
                "pid": one.pid,
                "state": one.state,
                "since": round(one.since, 3),
                "generation": one.setup.generation,
                "connections": one.connections,
                "requests": one.requests,
                "under_way": one.under_way[0],
                "transfers": one.under_way[1],
            }
            for one in sorted([*present, *self._others], key=lambda one: (one.slot, one.since))
        ]

    @property
    def is_alive(self) -> bool:
        limit = self._setup.config.server.hang_limit or SILENCE
        now = time.monotonic()
        return any(now - one.last_sign < limit for one in self._ready())


def worker_count(config: Config) -> int:
    """Return how many workers the configuration asks for; 0: none, and no parent."""
    workers = config.server.workers
    return processors() if workers == "auto" else workers


def processors() -> int:
    """Return how many processors we may use, a container's limit included."""
    present = len(os.sched_getaffinity(0))
    with suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return max(1, min(present, -(-int(quota) // int(period))))
    return present


def _after(ended: Deferred[None]) -> Deferred[None]:
    """Fire after `ended`, leaving its result alone."""
    after: Deferred[None] = Deferred()
    ended.addBoth(after.callback)
    return after
