"""What `twistd imgservice` runs: from the command line to a service."""

import atexit
import os
import pwd
import re
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, cast

import attrs
from twisted.application.service import IServiceCollection, MultiService
from twisted.logger import ILogObserver, Logger
from twisted.python import usage

from imgservice.build import Built, build
from imgservice.config import ConfigError, OptionError, located
from imgservice.keeper import Keeper
from imgservice.logs import Observer, Output, access_log, make_logs, say
from imgservice.options import Config
from imgservice.process.addresses import ListenError
from imgservice.process.crew import Alone, Crew
from imgservice.process.stuck import Stuck
from imgservice.process.supervisor import StartError, Supervisor
from imgservice.process.workers import Workers, worker_count
from imgservice.sources import Files, examine, prepare

WORKER = [sys.executable, "-P", "-m", "imgservice.worker"]

_log = Logger()


class Options(usage.Options):
    optParameters = [  # noqa: RUF012  Twisted reads it from the class
        ["config", "c", None, "YAML file with the configuration; without it every default holds."],
    ]
    longdesc = "A server for the OpenStack Images API."


@attrs.frozen
class Twistd:
    """What twistd was told on its own part of the command line."""

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
        twistd: Twistd,
    ) -> None:  # fmt: skip
        super().__init__()
        self._supervisor = supervisor
        self._path = path
        self._output = output
        self._observer = observer
        self._twistd = twistd
        supervisor.setServiceParent(self)

    def setServiceParent(self, parent: IServiceCollection) -> None:
        super().setServiceParent(parent)
        parent.setComponent(ILogObserver, self._observer)

    def privilegedStartService(self) -> None:
        self._or_fail(super().privilegedStartService)
        uid, gid = self._twistd.uid, self._twistd.gid
        if self._twistd.gives_up_root and uid is not None and gid is not None:
            self._output.give_to(uid, gid)
            if self._path is not None:
                self._or_fail(self._keep_rights)

    def _keep_rights(self) -> None:
        """Start what reads keys and binds addresses for us when we are nobody."""
        assert self._path is not None  # noqa: S101
        try:
            self._supervisor.source = Keeper(self._path)
        except ConfigError as error:
            _log.warn("{error}: a reload has the rights of {uid} only", error=error,
                      uid=self._twistd.uid)  # fmt: skip

    def startService(self) -> None:
        from twisted.internet import reactor

        self._or_fail(super().startService)
        self._output.start(reactor)
        # Not atexit: twistd ends by the signal that stopped it, and then nothing else is run.
        cast(Any, reactor).addSystemEventTrigger("after", "shutdown", self._output.stop)

    def _or_fail(self, start: Callable[[], None]) -> None:
        try:
            start()
        except (ConfigError, ListenError, StartError) as error:
            if self._twistd.is_daemon:
                _log.error("{error}", error=error)
                sys.excepthook = _say_nothing
                raise  # the process that waits at the terminal says it, and removes the pid file
            fail(str(error))


def makeService(options: Options) -> ImageService:
    """Build the service, or end the process with one line that says why not."""
    from twisted.internet import reactor

    path = Path(options["config"]) if options["config"] is not None else None
    try:
        return _service(_moved(path, options.parent), _twistd(options), reactor)
    except ConfigError as error:
        fail(str(error))


def _moved(path: Path | None, twistd: Any) -> Path | None:
    """Go where twistd will go, so that the same files are meant now and later."""
    if not twistd or Path(twistd["rundir"]).resolve() == Path.cwd():
        return path
    path = path and path.absolute()
    twistd["rundir"] = str(Path(twistd["rundir"]).resolve())
    os.chdir(twistd["rundir"])
    return path


def _twistd(options: Options) -> Twistd:
    found: Any = options.parent or {}
    uid, gid = found.get("uid"), found.get("gid")
    return Twistd(
        found.get("logfile"),
        bool(found) and not found.get("nodaemon"),
        uid,
        pwd.getpwuid(uid).pw_gid if uid is not None and gid is None else gid,
    )


def fail(message: str) -> NoReturn:
    """End the process with a message and no traceback."""
    _tell(message)
    raise SystemExit(1)


def _tell(message: str) -> None:
    say("\n".join(f"imgservice: {line}" for line in message.splitlines()))


def _say_nothing(*_: object) -> None:
    """Print no traceback of an error that was told already."""


def _service(path: Path | None, twistd: Twistd, reactor: Any) -> ImageService:
    """Read the configuration, and make everything that needs no rights."""
    source = Files(path)
    setup = source.read(1)
    examine(path, setup.config)
    output, observer = _logs(path, setup.config, twistd)

    def make(config: Config) -> Built:
        return build(config, reactor, access_log(config.logging, output))

    def prepare_at(config: Config) -> None:
        examine(path, config)
        prepare(path, config)

    stuck = Stuck(reactor, setup.config.server.hang_limit, lambda: output.descriptor)

    def renewed(config: Config) -> None:
        output.redirect(twistd.log_path(config))
        observer.configure(config.logging.format == "json", config.logging.level)
        stuck.limit = config.server.hang_limit

    count = worker_count(setup.config)
    give_up = partial(_give_up, reactor)
    crew: Crew = (
        Workers(reactor, count, WORKER, twistd.log_path, give_up) if count else Alone(reactor, make)
    )
    supervisor = Supervisor(reactor, setup, source, crew, prepare_at, renewed, _greet, give_up)
    service = ImageService(supervisor, path, output, observer, twistd)
    if not count:  # workers are looked after by their parent
        stuck.setServiceParent(service)
    return service


def _logs(path: Path | None, config: Config, twistd: Twistd) -> tuple[Output, Observer]:
    log_path = twistd.log_path(config)
    try:
        return make_logs(config.logging, log_path)
    except OSError as error:
        complaint = OptionError(("logging", "file"), f"{log_path}: {error.strerror}")
        raise ConfigError(located(path, complaint)) from None


def _give_up(reactor: Any, why: str) -> None:
    """End the process by and by, with an exit code that tells of a failure."""
    _log.error("Giving up: {why}", why=why)
    _tell(why)
    # twistd has no exit code for this, and what is left to do by then is done.
    atexit.register(os._exit, 1)
    if reactor.running:
        reactor.stop()


def _greet(config: Config) -> None:
    say(_greeting(config))


def _greeting(config: Config) -> str:
    """Say where we listen, and how to try it."""
    places = ", ".join(config.server.listen)
    line = f"imgservice listens on {places}"
    matched = re.match(r"tcp:(\d+)(?::interface=([\d.]+))?", config.server.listen[0])
    if matched is None:
        return line
    scheme = "https" if config.server.tls else "http"
    url = f"{scheme}://{matched[2] or '127.0.0.1'}:{matched[1]}"
    if config.auth.mode == "none":
        return f"{line}; try: OS_AUTH_TYPE=none OS_ENDPOINT={url} openstack image list"
    return f"{line}; try: curl {url}/versions"
