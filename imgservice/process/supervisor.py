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
from imgservice.process.signals import Ending
from imgservice.process.sockets import Sockets
from imgservice.process.state import StateFile
from imgservice.process.systemd import SystemdNotifier
from imgservice.process.tls import TlsMaterial, TlsReloader
from imgservice.process.worker_pool import Setup, WorkerPool, WorkerPoolError

LOOK = 1.0
"""Seconds between two looks at how we are."""
EXTENSION = 30.0
"""Seconds for which systemd is asked to wait, at every look, while something takes its time."""

_log = Logger()


class Source(Protocol):
    """Where configuration, keys and sockets come from."""

    def read(self, generation: int) -> Setup: ...

    def bind(
        self, address: Address, count: int, is_divided: bool, present: socket.socket | None
    ) -> list[socket.socket]: ...

    def signature(self, config: Config) -> object: ...

    def read_tls(self, config: Config) -> TlsMaterial: ...


class StartError(Exception):
    """The service cannot start; the message tells why."""


class Supervisor(Service):
    """Binds while it has root's rights, and begins to serve when it has given them up.

    SIGHUP reads everything anew, SIGUSR1 takes the node out of rotation, SIGUSR2 puts it back.
    """

    def __init__(
        self,
        reactor: Reactor,
        setup: Setup,
        source: Source,
        pool: WorkerPool,
        prepare: Callable[[Config], None],
        renewed: Callable[[Config], None],
        greet: Callable[[Setup], None],
        tell: Callable[[str], None],
        give_up: Callable[[str], None],
    ) -> None:
        self._reactor = reactor
        self._setup = setup
        self.source = source
        """May be replaced until we start."""
        self._pool = pool
        self._prepare = prepare
        """Checks a configuration, and does what must be done before it is used."""
        self._renewed = renewed
        """Told of a configuration that holds from now on."""
        self._greet = greet
        """Called once, when we serve."""
        self._tell = tell
        """Tells the operator at the terminal."""
        self._ending = Ending(reactor, self._interrupted, self._end_at_once)
        self._give_up = give_up
        """Ends the process, with the reason."""
        self._sockets = Sockets(self._bind)
        self._notify = SystemdNotifier()
        self._state = StateFile(setup.config.server.state_file)
        self._enter("starting")
        self._since = time.time()
        self._trouble: str | None = None
        self._failure: str | None = None
        self._reload_wanted = False
        self._reloading: Deferred[None] | None = None
        self._tls: TlsReloader | None = None
        self._looks = looping_call(reactor, self._look)

    def _enter(self, phase: str) -> None:
        self._phase, self._phase_since = phase, time.time()
        self._phase_began = time.monotonic()

    def _bind(
        self, address: Address, count: int, present: socket.socket | None
    ) -> list[socket.socket]:
        is_divided = self._setup.config.server.workers != 0
        return self.source.bind(address, count, is_divided, present)

    # -- starting ---------------------------------------------------------------------------------

    def privilegedStartService(self) -> None:
        """Bind; `ConfigError` when that cannot be."""
        raise_descriptor_limit()
        self._sockets.prepare(self._setup.addresses, self._pool.slots).begin()

    def startService(self) -> None:
        super().startService()
        self._set_umask(self._setup.config)
        self._prepare(self._setup.config)
        for number, act in (
            (signal.SIGHUP, self.reload),
            (signal.SIGUSR1, self.drain),
            (signal.SIGUSR2, self.resume),
        ):
            signal.signal(number, lambda *_, act=act: self._reactor.callFromThread(act))
        self._reactor.callWhenRunning(self._ending.take_signals)
        self._looks.start(min(LOOK, self._notify.watchdog_interval or LOOK), now=False)
        self._run(self._start())
        if self._failure is not None:
            raise StartError(self._failure)

    def _run(self, work: Coroutine[Any, Any, None]) -> Deferred[None]:
        async def careful() -> None:
            try:
                await work
            except Exception:
                _log.failure("This should not have happened")

        return Deferred.fromCoroutine(careful())

    async def _start(self) -> None:
        try:
            await self._pool.start(self._setup, self._sockets)
        except WorkerPoolError as error:
            if self._phase == "stopping":
                return
            self._failure = str(error)
            if self._reactor.running:  # else whoever starts us learns it by an exception
                self._give_up(self._failure)
            return
        if self._phase == "starting":
            self._enter("serving")
            self._watch_tls()
            self._notify.ready(self._summary())
            self._write_state()
            self._greet(self._setup)
            if self._reload_wanted:
                self.reload()

    def _set_umask(self, config: Config) -> None:
        if config.server.umask is not None:
            os.umask(int(config.server.umask, 8))

    # -- what is read anew ------------------------------------------------------------------------

    def _watch_tls(self) -> None:
        """Look after the files of TLS; a new setup may have others, or none."""
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
        """Read the configuration anew, and serve with it; while that goes on, once more after."""
        if self._phase in ("draining", "drained"):
            _log.error("Not reloaded, since this node is out of rotation")
            return
        self._reload_wanted = True
        if self._reloading is None and self._phase == "serving":
            self._reloading = self._run(self._reload())
            self._reloading.addCallback(self._reloaded)

    async def _reload(self) -> None:
        while self._reload_wanted and self._phase != "stopping":
            self._reload_wanted = False
            self._notify.reloading()
            try:
                await self._change()
            except (ConfigError, WorkerPoolError, ListenError) as error:
                self._trouble = f"reload: {error}"
                for line in str(error).splitlines():
                    _log.error("Not reloaded, since {line}", line=line)
            else:
                self._trouble = None
            self._notify.ready(self._summary())
            self._write_state()

    def _reloaded(self, _: object) -> None:
        self._reloading = None
        if self._reload_wanted:
            self.reload()

    async def _change(self) -> None:
        _log.info("Reading the configuration again")
        setup = await deferToThread(self.source.read, self._setup.generation + 1)
        self._check_change(setup.config)
        await deferToThread(self._prepare, setup.config)
        change = self._sockets.prepare(setup.addresses, self._pool.count(setup))
        # What was read holds for whatever is bound or started from now on.
        before, self._setup = self._setup, setup
        try:
            await self._pool.change(setup, self._sockets, change)
        except WorkerPoolError:
            self._setup = before
            raise
        change.finish()
        self._set_umask(setup.config)
        self._renewed(setup.config)
        self._watch_tls()
        _log.info("Serving with the new configuration, number {n}", n=setup.generation)

    def _check_change(self, config: Config) -> None:
        was, wanted = self._setup.config.server.workers, config.server.workers
        if (was == 0) != (wanted == 0):
            raise ConfigError(f"server.workers: from {was} to {wanted} takes a restart")

    # -- leaving the rotation, and coming back ----------------------------------------------------

    def drain(self) -> None:
        """Let load balancers notice that we leave, then accept no more; requests are finished."""
        if self._phase == "serving":
            self._enter("draining")
            self._pool.set_health(False)
            self._run(self._drain())
            self._write_state()
            self._notify.status("leaving the rotation")

    async def _drain(self) -> None:
        delay = self._setup.config.server.drain_delay
        _log.info("Leaving: /healthcheck answers 503; closing in {delay} s", delay=delay)
        deadline = time.monotonic() + delay
        while self._phase == "draining" and time.monotonic() < deadline:
            await sleep(self._reactor, min(LOOK, deadline - time.monotonic()))
        while self._reloading is not None:
            await sleep(self._reactor, LOOK)
        if self._phase == "draining":
            self._enter("drained")
            self._sockets.close()
            await self._pool.close()
            _log.info("Drained: no more connections are accepted")
            self._write_state()
            self._notify.status("out of rotation, no more connections are accepted")

    def resume(self) -> None:
        """Take part again."""
        if self._phase not in ("draining", "drained"):
            return
        try:
            if self._phase == "drained":
                self._sockets.prepare(self._setup.addresses, self._pool.slots).begin()
                self._pool.reopen(self._sockets)
        except (ConfigError, ListenError) as error:
            self._trouble = f"resume: {error}"
            _log.error("Not resumed, since {error}", error=error)
            return
        self._enter("serving")
        self._pool.set_health(True)
        _log.info("Taking part again")
        self._write_state()
        self._notify.status(self._summary())

    # -- telling how we are -----------------------------------------------------------------------

    def _look(self) -> None:
        self._write_state()
        is_changing = self._phase in ("starting", "stopping")
        if is_changing or self._reloading is not None:
            self._notify.extend(EXTENSION)
        if is_changing or self._pool.is_alive:
            self._notify.alive()

    def _write_state(self) -> None:
        self._state.write(
            {
                "phase": self._phase,
                "phase_since": round(self._phase_since, 3),
                "phase_began": round(self._phase_began, 3),
                "since": round(self._since, 3),
                "wanted": self._pool.slots,
                "generation": self._setup.generation,
                "listen": [one.description for one in self._setup.addresses],
                "workers": self._pool.report(),
                "trouble": self._trouble or self._pool.trouble,
                "troubles": [
                    {
                        "what": one.what,
                        "why": one.why,
                        "since": round(one.since, 3),
                        "essential": one.is_essential,
                    }
                    for one in self._pool.troubles.present
                ],
            }
        )

    def _summary(self) -> str:
        workers = len([one for one in self._pool.report() if one["state"] == "ready"])
        return f"serving with {workers} process(es), configuration {self._setup.generation}"

    # -- stopping ---------------------------------------------------------------------------------

    def _interrupted(self) -> None:
        self._tell(f"stopping: {self._waited_for()}; press Ctrl-C again to stop at once")

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
        """Leave what runs unfinished, as a crash would; whoever starts next cleans it up."""
        _log.warn("Stopped at once by a second SIGINT; unfinished work is cleaned up later")
        self._pool.kill()
        self._sockets.close()
        self._state.remove()
        self._tell("stopped at once; what was not finished is cleaned up after the next start")

    def stopService(self) -> Deferred[None]:
        super().stopService()
        _log.info("Stopping: {what}", what=self._waited_for())
        self._enter("stopping")
        return self._run(self._stop())

    async def _stop(self) -> None:
        grace = self._setup.config.server.shutdown_grace
        self._notify.stopping()
        self._notify.extend(EXTENSION)
        if self._tls is not None:
            self._tls.stopService()
        self._write_state()
        # Only the pool has the sockets now: it takes in who waits there, and closes them.
        self._sockets.close()
        await self._pool.stop(grace)
        if self._looks.running:
            self._looks.stop()
        self._state.remove()


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


class _Certificates:
    """What serves with certificates, for what looks after their files."""

    def __init__(self, pool: WorkerPool, material: TlsMaterial) -> None:
        self._pool = pool
        self.material = material

    def replace(self, material: TlsMaterial) -> None:
        self.material = material
        self._pool.set_tls(material)
