"""What the process that an operator started does beside serving: its log, terminal and end."""

import atexit
import os
from pathlib import Path

import attrs
from twisted.logger import Logger

from imgservice.concurrency.reactor import Reactor
from imgservice.config.errors import ConfigError, OptionError
from imgservice.config.loader import located
from imgservice.config.sections import Config
from imgservice.process.setup import Setup
from imgservice.process.watchdog import Watchdog
from imgservice.telemetry.logs import Observer, Output, make_logs, say
from imgservice.wiring.greeting import hint, summary
from imgservice.wiring.trials import Trials

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


class MainProcess:
    """The hooks of the supervisor, and the log that they write."""

    def __init__(
        self,
        reactor: Reactor,
        path: Path | None,
        options: ProcessOptions,
        config: Config,
        trials: Trials,
    ) -> None:
        """`ConfigError` when the log cannot be written."""
        self._reactor = reactor
        self.prepare = trials.prepare
        self._options = options
        self.output, self.observer = _logs(path, config, options)
        self.watchdog = Watchdog(reactor, config.server.hang_limit, lambda: self.output.descriptor)

    # -- the hooks --------------------------------------------------------------------------------

    def apply(self, config: Config) -> None:
        self.output.redirect(self._options.log_path(config))
        self.observer.configure(config.logging.format == "json", config.logging.level)
        self.watchdog.limit = config.server.hang_limit

    def greet(self, setup: Setup) -> None:
        """Say that we serve: at the terminal, and in the log where that is another place."""
        say("\n".join(filter(None, (summary(setup), hint(setup)))))
        if self._options.log_path(setup.config) is not None:
            _log.info("{summary}", summary=summary(setup))

    def tell(self, message: str) -> None:
        tell(message)

    def give_up(self, why: str) -> None:
        _log.error("Giving up: {why}", why=why)
        tell(why)
        # twistd has no exit code for this, and what is left to do by then is done.
        atexit.register(os._exit, 1)
        if self._reactor.running:
            self._reactor.stop()


def tell(message: str) -> None:
    """Tell the operator at the terminal."""
    say("\n".join(f"imgservice: {line}" for line in message.splitlines()))


def _logs(path: Path | None, config: Config, options: ProcessOptions) -> tuple[Output, Observer]:
    log_path = options.log_path(config)
    try:
        return make_logs(config.logging, log_path)
    except OSError as error:
        complaint = OptionError(("logging", "file"), f"{log_path}: {error.strerror}")
        raise ConfigError(located(path, complaint)) from None
