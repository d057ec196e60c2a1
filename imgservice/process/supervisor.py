"""The life of the service: sockets, the worker pool, reloads, draining, and what operators see."""

import os
import signal
import socket
import time
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.logger import Logger

from imgservice.concurrency.reactor import Reactor, looping_call, sleep
from imgservice.config.errors import ConfigError
from imgservice.config.sections import Config
from imgservice.process.addresses import Address, ListenError
from imgservice.process.descriptors import raise_descriptor_limit
from imgservice.process.phases import Life, Phase
from imgservice.process.report import describe
from imgservice.process.setup import Setup, Source
from imgservice.process.signals import Ending
from imgservice.process.sockets import Sockets
from imgservice.process.state import StateFile
from imgservice.process.systemd import SystemdNotifier
from imgservice.process.tls.material import TlsMaterial
from imgservice.process.tls.reloader import TlsReloader
from imgservice.process.umask import present_umask
from imgservice.process.worker_pool import WorkerPool, WorkerPoolError

LOOK = 1.0
"""Seconds between two reports of our state."""
EXTENSION = 30.0
"""Seconds for which systemd is asked to wait, with every report, while something takes its time."""

_log = Logger()


class Hooks(Protocol):
    """What this process does for the service, beside serving."""

    def prepare(self, config: Config) -> Callable[[], None]:
        """Begin to check a configuration, and to prepare the database and the stores for it.

        What is returned waits for the end, in any thread; `ConfigError` when it cannot be used.
        """

    def apply(self, config: Config) -> None:
        """Log, and watch this process, as a new configuration says."""

    def greet(self, setup: Setup) -> None:
        """Say that we serve."""

    def tell(self, message: str) -> None:
        """Tell the operator at the terminal."""

    def give_up(self, why: str) -> None:
        """End the process with this reason, and an exit code that tells of a failure."""


class StartError(Exception):
    """The service cannot start; the message tells why."""


class Supervisor(Service):
    """Binds while it has root's rights, and begins to serve when it has given them up.

    SIGHUP reads everything again, SIGUSR1 takes the node out of rotation, SIGUSR2 puts it back.
    """

    def __init__(
        self, reactor: Reactor, setup: Setup, source: Source, pool: WorkerPool, hooks: Hooks
    ) -> None:
        self._reactor = reactor
        self._setup = setup
        self.source = source
        """May be replaced until we start."""
        self._pool = pool
        self._hooks = hooks
        self._ending = Ending(reactor, self._interrupted, self._end_at_once)
        self._sockets = Sockets(self._bind)
        self._notify = SystemdNotifier()
        self._state = StateFile(setup.config.server.state_file)
        self._life = Life()
        self._since = time.time()
        self._trouble: str | None = None
        self._failure: str | None = None
        self._reload_wanted = False
        self._reloading: Deferred[None] | None = None
        self._tls: TlsReloader | None = None
        self._looks = looping_call(reactor, self._look)

    def _bind(
        self, address: Address, count: int, present: socket.socket | None
    ) -> list[socket.socket]:
        is_divided = self._setup.config.server.workers != 0
        return self.source.bind(address, count, is_divided, present)

    def _run(self, what: str, work: Coroutine[Any, Any, None]) -> Deferred[None]:
        """Let work go on beside everything else; what it raises is logged."""
        running = Deferred.fromCoroutine(work)
        return running.addErrback(
            lambda failure: _log.failure("Unexpected error during {what}", failure, what=what)
        )

    # -- starting ---------------------------------------------------------------------------------

    def privilegedStartService(self) -> None:
        """Bind; `ConfigError` when that cannot be."""
        raise_descriptor_limit()
        self._sockets.prepare(self._setup.addresses, self._pool.slots).begin()

    def startService(self) -> None:
        super().startService()
        self._first_umask = present_umask()
        self._set_umask()
        self._hooks.prepare(self._setup.config)()
        self._take_signals()
        self._looks.start(min(LOOK, self._notify.watchdog_interval or LOOK), now=False)
        self._run("the start", self._start())
        if self._failure is not None:
            raise StartError(self._failure)

    def _take_signals(self) -> None:
        for number, act in (
            (signal.SIGHUP, self.reload),
            (signal.SIGUSR1, self.drain),
            (signal.SIGUSR2, self.resume),
        ):
            signal.signal(number, lambda *_, act=act: self._reactor.callFromThread(act))
        self._reactor.callWhenRunning(self._ending.take_signals)

    async def _start(self) -> None:
        try:
            await self._pool.start(self._setup, self._sockets)
        except WorkerPoolError as error:
            self._fail(str(error))
            return
        if self._life.phase is Phase.STARTING:
            self._life.enter(Phase.SERVING)
            self._watch_tls()
            self._notify.ready(self._summary())
            self._write_state()
            self._hooks.greet(self._setup)
            if self._reload_wanted:
                self.reload()

    def _fail(self, why: str) -> None:
        if self._life.phase is Phase.STOPPING:
            return
        self._failure = why
        if self._reactor.running:  # else startService raises it
            self._hooks.give_up(why)

    # -- reloading --------------------------------------------------------------------------------

    def _watch_tls(self) -> None:
        """Watch the files of TLS; a new setup may have others, or none."""
        if self._tls is not None:
            self._tls.stopService()
            self._tls = None
        setup = self._setup
        if setup.tls is None:
            return
        self._tls = TlsReloader(
            self._reactor,
            lambda: self.source.read_tls(setup.config),
            lambda: self.source.signature(setup.config),
            _Certificates(self._pool, setup.tls),
        )
        self._tls.startService()

    def reload(self) -> None:
        """Read the configuration, and serve with it; during a reload, do it once more after it."""
        if self._life.is_out_of_rotation:
            _log.error("Reload refused: this node is drained; put it back into rotation first")
            return
        self._reload_wanted = True
        if self._reloading is None and self._life.phase is Phase.SERVING:
            self._reloading = self._run("a reload", self._reload())
            self._reloading.addCallback(self._reloaded)

    async def _reload(self) -> None:
        while self._reload_wanted and self._life.phase is not Phase.STOPPING:
            self._reload_wanted = False
            self._notify.reloading()
            try:
                await self._change()
            except (ConfigError, WorkerPoolError, ListenError) as error:
                self._trouble = f"reload: {error}"
                for line in str(error).splitlines():
                    _log.error("Reload failed, nothing has changed: {line}", line=line)
            else:
                self._trouble = None
            self._notify.ready(self._summary())
            self._write_state()

    def _reloaded(self, _: object) -> None:
        self._reloading = None
        if self._reload_wanted:
            self.reload()

    async def _change(self) -> None:
        _log.info("Reloading the configuration")
        setup = await deferToThread(self.source.read, self._setup.generation + 1)
        self._check_change(setup.config)
        await deferToThread(self._hooks.prepare(setup.config))
        change = self._sockets.prepare(setup.addresses, self._pool.count(setup))
        # What was read holds for whatever is bound or started from now on.
        before, self._setup = self._setup, setup
        self._set_umask()
        try:
            await self._pool.change(setup, self._sockets, change)
        except WorkerPoolError:
            self._setup = before
            self._set_umask()
            raise
        change.finish()
        self._hooks.apply(setup.config)
        self._watch_tls()
        _log.info("Reloaded: serving with configuration {n}", n=setup.generation)

    def _check_change(self, config: Config) -> None:
        was, wanted = self._setup.config.server.workers, config.server.workers
        if (was == 0) != (wanted == 0):
            raise ConfigError(f"server.workers: from {was} to {wanted} needs a restart")

    def _set_umask(self) -> None:
        umask = self._setup.config.server.umask
        os.umask(self._first_umask if umask is None else int(umask, 8))

    # -- leaving the rotation, and coming back ----------------------------------------------------

    def drain(self) -> None:
        """Let load balancers notice that we leave, then accept no more; requests are finished."""
        if self._life.phase is Phase.SERVING:
            self._life.enter(Phase.DRAINING)
            self._pool.set_health(False)
            self._run("draining", self._drain())
            self._write_state()
            self._notify.status("draining")

    async def _drain(self) -> None:
        delay = self._setup.config.server.drain_delay
        _log.info(
            "Draining: /healthcheck answers 503; connections are refused after {delay} s",
            delay=delay,
        )
        await self._until_drained(time.monotonic() + delay)
        if self._life.phase is Phase.DRAINING:
            self._life.enter(Phase.DRAINED)
            self._sockets.close()
            await self._pool.close()
            _log.info("Drained: no more connections are accepted")
            self._write_state()
            self._notify.status("drained, no more connections are accepted")

    async def _until_drained(self, deadline: float) -> None:
        while self._life.phase is Phase.DRAINING and time.monotonic() < deadline:
            await sleep(self._reactor, min(LOOK, max(0.0, deadline - time.monotonic())))
        while self._reloading is not None:
            await sleep(self._reactor, LOOK)

    def resume(self) -> None:
        """Come back into rotation."""
        if not self._life.is_out_of_rotation:
            return
        was_drained = self._life.phase is Phase.DRAINED
        try:
            if was_drained:
                self._sockets.prepare(self._setup.addresses, self._pool.slots).begin()
            self._pool.set_health(True)  # before anybody can connect
            if was_drained:
                self._pool.reopen(self._sockets)
        except (ConfigError, ListenError) as error:
            self._trouble = f"resume: {error}"
            _log.error("Resume failed, still out of rotation: {error}", error=error)
            return
        self._life.enter(Phase.SERVING)
        _log.info("Resumed: back in rotation")
        self._write_state()
        self._notify.status(self._summary())

    # -- reporting our state ----------------------------------------------------------------------

    def _look(self) -> None:
        self._write_state()
        if self._life.is_changing or self._reloading is not None:
            self._notify.extend(EXTENSION)
        if self._life.is_changing or self._pool.is_alive:
            self._notify.alive()

    def _write_state(self) -> None:
        self._state.write(describe(self._life, self._since, self._setup, self._pool, self._trouble))

    def _summary(self) -> str:
        workers = len([one for one in self._pool.report() if one["state"] == "ready"])
        return f"serving with {workers} process(es), configuration {self._setup.generation}"

    # -- stopping ---------------------------------------------------------------------------------

    def _interrupted(self) -> None:
        self._hooks.tell(f"stopping: {self._waited_for()}; press Ctrl-C again to stop at once")

    def _waited_for(self) -> str:
        """Say what keeps us from ending, and for how long at most."""
        requests, transfers = self._pool.under_way
        if not requests:
            return "no requests are under way"
        grace = self._setup.config.server.shutdown_grace
        return (
            f"{_counted(requests, 'request')} under way, {_counted(transfers, 'transfer')} among"
            f" them; waiting up to {grace:g} seconds"
        )

    def _end_at_once(self) -> None:
        """Leave requests unfinished, as a crash would; the next start cleans up."""
        _log.warn("Stopped at once by a second SIGINT; the next start cleans up unfinished work")
        self._pool.kill()
        self._sockets.close()
        self._state.remove()
        self._hooks.tell("stopped at once; the next start cleans up unfinished work")

    def stopService(self) -> Deferred[None]:
        super().stopService()
        _log.info("Stopping: {what}", what=self._waited_for())
        self._life.enter(Phase.STOPPING)
        return self._run("the end", self._stop())

    async def _stop(self) -> None:
        grace = self._setup.config.server.shutdown_grace
        self._notify.stopping()
        self._notify.extend(EXTENSION)
        if self._tls is not None:
            self._tls.stopService()
        self._write_state()
        # Only the workers have the sockets now: they accept who waits there, and close them.
        self._sockets.close()
        await self._pool.stop(grace)
        if self._looks.running:
            self._looks.stop()
        self._state.remove()


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


class _Certificates:
    """What serves with certificates, as the reloader of their files sees it."""

    def __init__(self, pool: WorkerPool, material: TlsMaterial) -> None:
        self._pool = pool
        self.material = material

    def replace(self, material: TlsMaterial) -> None:
        self.material = material
        self._pool.set_tls(material)
