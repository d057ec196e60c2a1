"""Make the service, for `imgservice run` and for `twistd imgservice`."""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from twisted.application.service import IServiceCollection, MultiService
from twisted.logger import ILogObserver, Logger

from imgservice.concurrency.clock import make_monotonic
from imgservice.concurrency.importing import without_collections
from imgservice.concurrency.reactor import Reactor, installed_reactor
from imgservice.config.errors import ConfigError
from imgservice.process.addresses import ListenError
from imgservice.process.processors import worker_count
from imgservice.process.supervisor import StartError, Supervisor
from imgservice.wiring.load import Files
from imgservice.wiring.main_process import MainProcess, ProcessOptions, tell

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
        from imgservice.wiring.privileged_helper import PrivilegedHelper

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
    except KeyboardInterrupt:  # while another process tries the configuration
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
        raise


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
    is_parent = worker_count(setup.config) > 0
    with without_collections():
        # A parent does not import what serves, and what serves alone does not import a parent.
        if is_parent:
            from imgservice.wiring.with_workers import make
        else:
            from imgservice.wiring.alone import make
    process, pool = make(reactor, path, options, setup.config)
    supervisor = Supervisor(reactor, setup, source, pool, process)
    service = ImageServer(supervisor, path, process, options)
    if not is_parent:  # workers are watched by their parent
        process.watchdog.setServiceParent(service)
    return service
