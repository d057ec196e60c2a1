"""What `twistd imgservice` runs: from the command line to a service."""

import re
import sys
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, cast

from twisted.application.service import IServiceCollection, MultiService
from twisted.logger import ILogObserver, Logger
from twisted.python import usage

from imgservice.build import build
from imgservice.config import ConfigError, OptionError, load, located
from imgservice.logs import AccessLog, Observer, Output, say
from imgservice.options import Config
from imgservice.preflight import endpoints, preflight, server_contexts
from imgservice.process.server import Server
from imgservice.process.sockets import ListenError
from imgservice.process.tls import TlsReloader, read_material, signature

_log = Logger()


class Options(usage.Options):
    optParameters = [  # noqa: RUF012  Twisted reads it from the class
        ["config", "c", None, "YAML file with the configuration; without it every default holds."],
    ]
    longdesc = "A server for the OpenStack Images API."


class ImageService(MultiService):
    """The root of our services; brings the log observer to the application that it joins."""

    def __init__(self, output: Output, observer: Observer, greeting: str, is_daemon: bool) -> None:
        super().__init__()
        self._output = output
        self._observer = observer
        self._greeting = greeting
        self._is_daemon = is_daemon

    def setServiceParent(self, parent: IServiceCollection) -> None:
        super().setServiceParent(parent)
        parent.setComponent(ILogObserver, self._observer)

    def privilegedStartService(self) -> None:
        try:
            super().privilegedStartService()
        except ListenError as error:
            if self._is_daemon:
                _log.error("{error}", error=error)
                sys.excepthook = _say_nothing
                raise  # the process that waits at the terminal says it, and removes the pid file
            fail(str(error))

    def startService(self) -> None:
        from twisted.internet import reactor

        super().startService()
        self._output.start(reactor)
        # Not atexit: twistd ends by the signal that stopped it, and then nothing else is run.
        cast(Any, reactor).addSystemEventTrigger("after", "shutdown", self._output.stop)
        say(self._greeting)


def makeService(options: Options) -> ImageService:
    """Build the service, or end the process with one line that says why not."""
    from twisted.internet import reactor

    path = Path(options["config"]) if options["config"] is not None else None
    try:
        config = load(path)
        preflight(config)
        return _service(config, options, reactor)
    except ConfigError as error:
        fail(located(path, error))


def fail(message: str) -> NoReturn:
    """End the process with a message and no traceback."""
    say("\n".join(f"imgservice: {line}" for line in message.splitlines()))
    raise SystemExit(1)


def _say_nothing(*_: object) -> None:
    """Print no traceback of an error that was told already."""


def _service(config: Config, options: Options, reactor: Any) -> ImageService:
    server = config.server
    output = _output(config, options)
    as_json = config.logging.format == "json"
    observer = Observer(output, as_json, config.logging.level)
    access = AccessLog(output, as_json) if config.logging.access else None
    contexts = server_contexts(config)
    listening = endpoints(config, reactor, contexts)
    built = build(config, reactor, access)
    service = ImageService(output, observer, _greeting(config), _is_daemon(options))
    Server(reactor, built, listening, server.tcp_keepidle, server.shutdown_grace).setServiceParent(
        service
    )
    if contexts is not None and server.tls is not None:
        read, look = partial(read_material, server.tls), partial(signature, server.tls)
        TlsReloader(reactor, read, look, contexts).setServiceParent(service)
    return service


def _output(config: Config, options: Options) -> Output:
    """Log to where twistd was told to, else to where the configuration says."""
    twistd: Any = options.parent or {}
    path = twistd.get("logfile") or config.logging.file
    if path == "-":
        path = None
    elif path is None and _is_daemon(options):
        path = "imgservice.log"  # a daemon has no standard output
    try:
        return Output(path)
    except OSError as error:
        raise OptionError(("logging", "file"), f"{path}: {error.strerror}") from None


def _is_daemon(options: Options) -> bool:
    """Tell whether twistd will leave the terminal."""
    return options.parent is not None and not options.parent.get("nodaemon")


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
