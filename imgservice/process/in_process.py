"""A worker pool without workers: the main process serves."""

import os
from collections.abc import Callable, Sequence

from twisted.internet.defer import Deferred, DeferredList
from twisted.logger import Logger

from imgservice.concurrency.reactor import Reactor
from imgservice.config.errors import ConfigError
from imgservice.config.sections import Config
from imgservice.http.channel import StreamingChannel
from imgservice.process.phases import WorkerState
from imgservice.process.serving import Built, Serving
from imgservice.process.setup import Setup
from imgservice.process.sockets import Change, Sockets
from imgservice.process.tls.contexts import ServerContexts
from imgservice.process.tls.material import TlsMaterial
from imgservice.process.worker_pool import (
    UnderWay,
    WorkerPoolError,
    WorkerReport,
    in_all,
    worker_report,
)
from imgservice.troubles import TroubleLog, Troubles

_log = Logger()


class InProcess:
    """This process serves."""

    slots = 1
    trouble: str | None = None
    is_alive = True  # whoever asks runs on the same reactor

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
        self._serving = await self._begin(setup, sockets)

    async def _begin(self, setup: Setup, sockets: Sockets) -> Serving:
        try:
            serving = await self._serve(setup, sockets)
        except (ConfigError, OSError) as error:
            raise WorkerPoolError(str(error)) from error
        except Exception as error:
            _log.failure("The service failed to start")
            raise WorkerPoolError(str(error) or type(error).__name__) from error
        self._setup = setup
        return serving

    async def _serve(self, setup: Setup, sockets: Sockets) -> Serving:
        contexts = ServerContexts(setup.tls) if setup.tls else None
        built = self._make(setup.config, self._own)
        serving = Serving(self._reactor, built, contexts, setup.config.server.tcp_keepidle)
        await serving.start(0, sockets.of(0))
        return serving

    async def change(self, setup: Setup, sockets: Sockets, change: Change) -> None:
        before, generation = self._serving, self._setup.generation if self._setup else 0
        assert before is not None  # noqa: S101
        change.begin()
        try:
            successor = await self._begin(setup, sockets)
        except WorkerPoolError:
            change.undo()
            raise
        change.close_left(0)
        self._serving = successor
        retiring = Deferred.fromCoroutine(
            before.retire(
                setup.config.server.reload_grace,
                lambda address: address.description in change.removed,
                self._take,
            )
        )
        self._retiring[before] = (generation, retiring)
        retiring.addBoth(lambda _: self._retiring.pop(before, None))

    def _take(self, channel: StreamingChannel) -> bool:
        """Give a connection to what serves now, which need not be the first successor any more."""
        return self._serving is not None and self._serving.take(channel)

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

    def report(self) -> Sequence[WorkerReport]:
        if self._serving is None or self._setup is None:
            return []
        return [
            _report(self._serving, WorkerState.READY, self._setup.generation),
            *(
                _report(one, WorkerState.RETIRING, generation)
                for one, (generation, _) in self._retiring.items()
            ),
        ]


def _report(serving: Serving, state: WorkerState, generation: int) -> WorkerReport:
    return worker_report(serving, 0, os.getpid(), state, generation)
