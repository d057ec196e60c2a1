"""Make the service, for `imgservice run` and for `twistd imgservice`."""

import gc
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from twisted.application.service import IServiceCollection, MultiService
from twisted.logger import ILogObserver, Logger

from imgservice.concurrency.clock import make_monotonic
from imgservice.concurrency.reactor import Reactor, installed_reactor
from imgservice.config.errors import ConfigError
from imgservice.config.sections import Config
from imgservice.process.addresses import ListenError
from imgservice.process.forking import ForkServer
from imgservice.process.in_process import InProcess
from imgservice.process.processors import worker_count
from imgservice.process.supervisor import StartError, Supervisor
from imgservice.process.worker_pool import WorkerPool
from imgservice.process.workers import Workers
from imgservice.wiring.load import Files, examine
from imgservice.wiring.main_process import MainProcess, ProcessOptions, tell
from imgservice.wiring.privileged_helper import PrivilegedHelper

FORK_SERVER = [sys.executable, "-P", "-m", "imgservice.fork_server"]
NOT_FOR_WORKERS = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDNAMES")
"""Variables of the environment that are for this process alone."""

_log = Logger()


class ImageServer(MultiService):
    """The root of our services; brings the log observer to the application that it joins."""

    def __init__(
        self,
        supervisor: Supervisor,
        path: Path | None,
        process: MainProcess,
        options: ProcessOptions,
    ) -> None:
        super().__init__()
        self._supervisor = supervisor
        self._path = path
        self._process = process
        self._options = options
        supervisor.setServiceParent(self)

    def setServiceParent(self, parent: IServiceCollection) -> None:
        super().setServiceParent(parent)
        parent.setComponent(ILogObserver, self._process.observer)

    def privilegedStartService(self) -> None:
        self._or_fail(super().privilegedStartService)
        uid, gid = self._options.uid, self._options.gid
        if self._options.gives_up_root and uid is not None and gid is not None:
            self._process.output.give_to(uid, gid)
            if self._path is not None:
                self._or_fail(self._keep_rights)

    def _keep_rights(self) -> None:
        """Start what reads keys and binds addresses for us when we no longer have root's rights."""
        assert self._path is not None  # noqa: S101
        try:
            self._supervisor.source = PrivilegedHelper(self._path)
        except ConfigError as error:
            _log.warn(
                "Without a privileged helper, reloads have only the rights of user {uid}: {error}",
                uid=self._options.uid,
                error=error,
            )

    def startService(self) -> None:
        self._or_fail(super().startService)
        reactor = installed_reactor()
        self._process.output.start(reactor)
        # Not atexit: twistd ends by the signal that stopped it, and then nothing else is run.
        reactor.addSystemEventTrigger("after", "shutdown", self._process.output.stop)

    def _or_fail(self, start: Callable[[], None]) -> None:
        try:
            start()
        except (ConfigError, ListenError, StartError) as error:
            if self._options.is_daemon:
                _log.error("{error}", error=error)
                sys.excepthook = _print_nothing
                raise  # the process that waits at the terminal says it, and removes the pid file
            fail(str(error))


def make_service(path: Path | None, options: ProcessOptions) -> ImageServer:
    """Build the service, or end the process with one line that says why not."""
    reactor = installed_reactor()
    make_monotonic(reactor)
    try:
        return _service(path, options, reactor)
    except ConfigError as error:
        fail(str(error))


def fail(message: str) -> NoReturn:
    """End the process with a message and no traceback."""
    tell(message)
    raise SystemExit(1)


def _print_nothing(*_: object) -> None:
    """Print no traceback of an error that was told already."""


def _service(path: Path | None, options: ProcessOptions, reactor: Reactor) -> ImageServer:
    """Read the configuration, and make everything that needs no rights."""
    source = Files(path)
    setup = source.read(1)
    examine(path, setup.config)
    # What was imported stays: do not look at it in each collection of garbage.
    gc.freeze()
    process = MainProcess(reactor, path, options, setup.config)
    pool = _worker_pool(reactor, setup.config, process, options)
    supervisor = Supervisor(reactor, setup, source, pool, process)
    service = ImageServer(supervisor, path, process, options)
    if not worker_count(setup.config):  # workers are watched by their parent
        process.watchdog.setServiceParent(service)
    return service


def _worker_pool(
    reactor: Reactor, config: Config, process: MainProcess, options: ProcessOptions
) -> WorkerPool:
    count = worker_count(config)
    if not count:
        return InProcess(reactor, process.build)
    forks = ForkServer(reactor, FORK_SERVER, NOT_FOR_WORKERS)
    return Workers(reactor, count, forks, options.log_path, process.give_up)
