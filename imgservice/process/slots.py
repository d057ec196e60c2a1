"""The slots of workers, whose sockets stay when a worker is replaced."""

from collections.abc import Iterator

from imgservice.concurrency.reactor import DelayedCall
from imgservice.process.messages import Unlisten
from imgservice.process.sockets import ListeningSocket, Sockets
from imgservice.process.worker_process import Worker

LONGEST_PAUSE = 30.0
"""Seconds between two attempts to start a worker, at most."""
MOST_AFTER_SERVING = 1
"""Failed starts that are held against a slot whose worker has served, or was killed from outside:
it may try again soon, but not without a pause."""


class Slot:
    """What one worker serves: sockets of its own."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.worker: Worker | None = None
        """The one that serves."""
        self.coming: Worker | None = None
        """One that starts."""
        self.substitute: Worker | None = None
        """Another slot's worker that accepts for this one meanwhile."""
        self.failures = 0
        """Failed starts in a row."""
        self.retry: DelayedCall | None = None

    @property
    def is_served(self) -> bool:
        return self.worker is not None and self.worker.is_ready

    def next_pause(self) -> float:
        """Count an attempt; return the seconds before it: none at first, then more and more."""
        pause = min(LONGEST_PAUSE, 2.0 ** (self.failures - 2)) if self.failures else 0.0
        self.failures += 1
        return pause

    def forgive(self, is_steady: bool = False) -> None:
        """Do not count failed starts, since a worker has served, or was killed from outside."""
        self.failures = 0 if is_steady else min(self.failures, MOST_AFTER_SERVING)


class Slots:
    """All slots; sees that a worker accepts on the sockets of each."""

    def __init__(self, count: int) -> None:
        self._slots = [Slot(index) for index in range(count)]

    def __iter__(self) -> Iterator[Slot]:
        return iter(self._slots)

    def __len__(self) -> int:
        return len(self._slots)

    def at(self, index: int) -> Slot:
        """Return the slot, which is made if it is the next one."""
        if index == len(self._slots):
            self._slots.append(Slot(index))
        return self._slots[index]

    def cut(self, count: int) -> list[Slot]:
        """Keep the first so many; return the others."""
        left, self._slots = self._slots[count:], self._slots[:count]
        return left

    def of(self, worker: Worker) -> Slot | None:
        """Return the slot that the worker serves."""
        return next((one for one in self._slots if one.worker is worker), None)

    @property
    def workers(self) -> list[Worker]:
        return [one.worker for one in self._slots if one.worker is not None]

    @property
    def ready(self) -> list[Worker]:
        return [one for one in self.workers if one.is_ready]

    @property
    def are_all_served(self) -> bool:
        return all(one.is_served for one in self._slots)

    def arrange(self, sockets: Sockets) -> None:
        """Let another worker accept where a slot has none, until it has one."""
        for slot in self._slots:
            if slot.substitute and (slot.is_served or not slot.substitute.is_ready):
                slot.substitute.send(Unlisten(slot.index))
                slot.substitute = None
            if not slot.is_served and slot.substitute is None:
                slot.substitute = self._least_burdened()
                if slot.substitute is not None:
                    slot.substitute.listen(slot.index, _divisible(sockets, slot.index))

    def forget_substitutes(self) -> None:
        """Note that no worker accepts on any socket."""
        for slot in self._slots:
            slot.substitute = None

    def _least_burdened(self) -> Worker | None:
        burden = [one.substitute for one in self._slots]
        return min(self.ready, key=lambda one: (burden.count(one), one.slot), default=None)


def _divisible(sockets: Sockets, slot: int) -> list[ListeningSocket]:
    return [one for one in sockets.of(slot) if one[0].is_divisible]
