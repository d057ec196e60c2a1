"""Who serves: this process itself, or others that it looks after."""

import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

from twisted.internet.defer import Deferred, DeferredList

from imgservice.concurrency.reactor import Reactor
from imgservice.config.errors import ConfigError
from imgservice.config.sections import Config
from imgservice.process.serving import Built, Serving, UnderWay
from imgservice.process.setup import Setup
from imgservice.process.sockets import Change, Sockets
from imgservice.process.tls import ServerContexts, TlsMaterial
from imgservice.troubles import TroubleLog, Troubles


class WorkerPoolError(Exception):
    """Nobody can serve with this setup; the message tells why."""


class WorkerPool(Protocol):
    slots: int
    """How many sockets are needed at each address."""
    trouble: str | None
    """What went wrong last, and still is."""
    troubles: TroubleLog
    """What does not work of all that we depend on."""

    def count(self, setup: Setup) -> int:
        """Return how many sockets the setup needs at each address."""

    async def start(self, setup: Setup, sockets: Sockets) -> None:
        """Serve; `WorkerPoolError` when that cannot be."""

    async def change(self, setup: Setup, sockets: Sockets, change: Change) -> None:
        """Serve with this setup instead of the present one, and let nobody notice.

        `WorkerPoolError` when that cannot be: then the present one still holds.
        """

    def set_tls(self, material: TlsMaterial) -> None:
        """Use these certificates for new connections."""

    def set_health(self, is_well: bool) -> None:
        """Tell load balancers whether to send requests here."""

    async def close(self) -> None:
        """Accept no more; requests go on."""

    def reopen(self, sockets: Sockets) -> None:
        """Accept again after `close`."""

    async def stop(self, grace: float) -> None:
        """End; requests may go on for so long."""

    def kill(self) -> None:
        """End other processes at once; what they do is left as it is."""

    @property
    def under_way(self) -> UnderWay:
        """What would have to be finished."""

    def report(self) -> Sequence[dict[str, Any]]:
        """Return what there is to say of each process."""

    @property
    def is_alive(self) -> bool:
        """Whether somebody serves, and is not stuck."""


class InProcess:
    """This process serves."""

    slots = 1
    trouble: str | None = None
    is_alive = True  # whoever can ask has the answer: there is but one reactor

    def __init__(self, reactor: Reactor, make: Callable[[Config, Troubles], Built]) -> None:
        self._reactor = reactor
        self._make = make
        self.troubles = TroubleLog()
        self._own = Troubles(reactor, self.troubles.listener(self))
        self._serving: Serving | None = None
        self._retiring: dict[Serving, tuple[int, Deferred[None]]] = {}
        self._setup: Setup | None = None

    def count(self, setup: Setup) -> int:
        return 1

    async def start(self, setup: Setup, sockets: Sockets) -> None:
        try:
            self._serving = await self._begin(setup, sockets)
        except (ConfigError, OSError) as error:
            raise WorkerPoolError(str(error)) from error

    async def _begin(self, setup: Setup, sockets: Sockets) -> Serving:
        contexts = ServerContexts(setup.tls) if setup.tls else None
        built = self._make(setup.config, self._own)
        serving = Serving(self._reactor, built, contexts, setup.config.server.tcp_keepidle)
        await serving.start(0, sockets.of(0))
        self._setup = setup
        return serving

    async def change(self, setup: Setup, sockets: Sockets, change: Change) -> None:
        before, generation = self._serving, self._setup.generation if self._setup else 0
        assert before is not None  # noqa: S101
        change.begin()
        try:
            successor = await self._begin(setup, sockets)
        except (ConfigError, OSError) as error:
            change.undo()
            raise WorkerPoolError(str(error)) from error
        change.close_left(0)
        self._serving = successor
        retiring = Deferred.fromCoroutine(
            before.retire(
                setup.config.server.reload_grace,
                lambda address: address.description in change.removed,
                successor.take,
            )
        )
        self._retiring[before] = (generation, retiring)
        retiring.addBoth(lambda _: self._retiring.pop(before, None))

    def set_tls(self, material: TlsMaterial) -> None:
        if self._serving is not None and self._serving.contexts is not None:
            self._serving.contexts.replace(material)

    def set_health(self, is_well: bool) -> None:
        if self._serving is not None:
            self._serving.set_health(is_well)

    async def close(self) -> None:
        if self._serving is not None:
            self._serving.stop_accepting()

    def reopen(self, sockets: Sockets) -> None:
        if self._serving is not None:
            self._serving.listen(0, sockets.of(0))

    async def stop(self, grace: float) -> None:
        for one in self._retiring:
            one.hasten(grace)
        ends = [end for _, end in self._retiring.values()]
        if self._serving is not None:
            ends.append(Deferred.fromCoroutine(self._serving.stop(grace)))
        await DeferredList(ends)

    def kill(self) -> None:
        """There are no others."""

    @property
    def under_way(self) -> UnderWay:
        serving = [self._serving] if self._serving is not None else []
        return in_all(one.under_way for one in (*serving, *self._retiring))

    def report(self) -> Sequence[dict[str, Any]]:
        if self._serving is None or self._setup is None:
            return []
        retiring = self._retiring.items()
        return [
            _reported(self._serving, "ready", self._setup.generation),
            *(_reported(one, "retiring", generation) for one, (generation, _) in retiring),
        ]


def in_all(counts: Iterable[UnderWay]) -> UnderWay:
    """Add up what is under way in several places."""
    requests = transfers = 0
    for one in counts:
        requests, transfers = requests + one[0], transfers + one[1]
    return requests, transfers


def _reported(serving: Serving, state: str, generation: int) -> dict[str, Any]:
    under_way, transfers = serving.under_way
    return {
        "slot": 0,
        "pid": os.getpid(),
        "state": state,
        "since": round(serving.since, 3),
        "generation": generation,
        "connections": serving.connections,
        "requests": serving.requests,
        "under_way": under_way,
        "transfers": transfers,
    }
