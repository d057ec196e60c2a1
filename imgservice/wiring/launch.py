"""Make the service and its log, for `imgservice run` and for `twistd imgservice`."""

import atexit
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NoReturn

import attrs
from twisted.application.service import IServiceCollection, MultiService
from twisted.logger import ILogObserver, Logger

from imgservice.concurrency.clock import make_monotonic
from imgservice.concurrency.reactor import Reactor, installed_reactor
from imgservice.config.errors import ConfigError, OptionError
from imgservice.config.loader import located
from imgservice.config.sections import Config
from imgservice.process.addresses import ListenError
from imgservice.process.serving import Built
from imgservice.process.supervisor import StartError, Supervisor
from imgservice.process.watchdog import Watchdog
from imgservice.process.worker_pool import InProcess, Setup, WorkerPool
from imgservice.process.workers import Workers, worker_count
from imgservice.telemetry.logs import Observer, Output, make_logs, say
from imgservice.troubles import Troubles
from imgservice.wiring.build import build
from imgservice.wiring.greeting import hint, summary
from imgservice.wiring.listeners import make_listeners
from imgservice.wiring.load import Files, examine, prepare
from imgservice.wiring.privileged_helper import PrivilegedHelper

WORKER = [sys.executable, "-P", "-m", "imgservice.worker"]

_log = Logger()


@attrs.frozen
class ProcessOptions:
    """How the process was started, beside its configuration."""

    log_file: str | None
    is_daemon: bool
    uid: int | None
    gid: int | None

    def log_path(self, config: Config) -> str | None:
        """Return where to log to: where twistd was told to, else where the configuration says."""
        path = self.log_file or config.logging.file
        if path == "-":
            return None
        if path is None and self.is_daemon:
            return "imgservice.log"  # a daemon has no standard output
        return path

    @property
    def gives_up_root(self) -> bool:
        return os.geteuid() == 0 and self.uid not in (None, 0)


class ImageService(MultiService):
    """The root of our services; brings the log observer to the application that it joins."""

    def __init__(
        self, supervisor: Supervisor, path: Path | None, output: Output, observer: Observer,
        process: ProcessOptions,
    ) -> None:  # fmt: skip
        super().__init__()
        self._supervisor = supervisor
        self._path = path
        self._output = output
        self._observer = observer
        self._process = process
        supervisor.setServiceParent(self)

    def setServiceParent(self, parent: IServiceCollection) -> None:
        super().setServiceParent(parent)
        parent.setComponent(ILogObserver, self._observer)

    def privilegedStartService(self) -> None:
        self._or_fail(super().privilegedStartService)
        uid, gid = self._process.uid, self._process.gid
        if self._process.gives_up_root and uid is not None and gid is not None:
            self._output.give_to(uid, gid)
            if self._path is not None:
                self._or_fail(self._keep_rights)

    def _keep_rights(self) -> None:
        """Start what reads keys and binds addresses for us when we are nobody."""
        assert self._path is not None  # noqa: S101
        try:
            self._supervisor.source = PrivilegedHelper(self._path)
        except ConfigError as error:
            _log.warn("{error}: a reload has the rights of {uid} only", error=error,
                      uid=self._process.uid)  # fmt: skip

    def startService(self) -> None:
        self._or_fail(super().startService)
        reactor = installed_reactor()
        self._output.start(reactor)
        # Not atexit: twistd ends by the signal that stopped it, and then nothing else is run.
        reactor.addSystemEventTrigger("after", "shutdown", self._output.stop)

    def _or_fail(self, start: Callable[[], None]) -> None:
        try:
            start()
        except (ConfigError, ListenError, StartError) as error:
            if self._process.is_daemon:
                _log.error("{error}", error=error)
                sys.excepthook = _say_nothing
                raise  # the process that waits at the terminal says it, and removes the pid file
            fail(str(error))


def make_service(path: Path | None, process: ProcessOptions) -> ImageService:
    """Build the service, or end the process with one line that says why not."""
    reactor = installed_reactor()
    make_monotonic(reactor)
    try:
        return _service(path, process, reactor)
    except ConfigError as error:
        fail(str(error))


def fail(message: str) -> NoReturn:
    """End the process with a message and no traceback."""
    _tell(message)
    raise SystemExit(1)


def _tell(message: str) -> None:
    say("\n".join(f"imgservice: {line}" for line in message.splitlines()))


def _say_nothing(*_: object) -> None:
    """Print no traceback of an error that was told already."""


def _service(path: Path | None, process: ProcessOptions, reactor: Reactor) -> ImageService:
    """Read the configuration, and make everything that needs no rights."""
    source = Files(path)
    setup = source.read(1)
    examine(path, setup.config)
    output, observer = _logs(path, setup.config, process)

    def make(config: Config, troubles: Troubles) -> Built:
        return build(config, reactor, make_listeners(config, output), troubles)

    def prepare_at(config: Config) -> None:
        examine(path, config)
        prepare(path, config)

    stuck = Watchdog(reactor, setup.config.server.hang_limit, lambda: output.descriptor)

    def renewed(config: Config) -> None:
        output.redirect(process.log_path(config))
        observer.configure(config.logging.format == "json", config.logging.level)
        stuck.limit = config.server.hang_limit

    count = worker_count(setup.config)
    give_up = partial(_give_up, reactor)
    crew: WorkerPool = (
        Workers(reactor, count, WORKER, process.log_path, give_up)
        if count
        else InProcess(reactor, make)
    )
    greet = partial(_greet, is_shown=process.log_path(setup.config) is None)
    supervisor = Supervisor(
        reactor, setup, source, crew, prepare_at, renewed, greet, _tell, give_up
    )
    service = ImageService(supervisor, path, output, observer, process)
    if not count:  # workers are looked after by their parent
        stuck.setServiceParent(service)
    return service


def _logs(path: Path | None, config: Config, process: ProcessOptions) -> tuple[Output, Observer]:
    log_path = process.log_path(config)
    try:
        return make_logs(config.logging, log_path)
    except OSError as error:
        complaint = OptionError(("logging", "file"), f"{log_path}: {error.strerror}")
        raise ConfigError(located(path, complaint)) from None


def _greet(setup: Setup, is_shown: bool) -> None:
    """Say that we serve: at the terminal, and in the log where that is another place."""
    say("\n".join(filter(None, (summary(setup), hint(setup)))))
    if not is_shown:
        _log.info("{summary}", summary=summary(setup))


def _give_up(reactor: Reactor, why: str) -> None:
    """End the process by and by, with an exit code that tells of a failure."""
    _log.error("Giving up: {why}", why=why)
    _tell(why)
    # twistd has no exit code for this, and what is left to do by then is done.
    atexit.register(os._exit, 1)
    if reactor.running:
        reactor.stop()
