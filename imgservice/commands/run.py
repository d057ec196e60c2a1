"""`imgservice run`: the service in the foreground."""

from pathlib import Path
from typing import Any

import click
from twisted.application import app
from twisted.application.service import Application
from twisted.scripts._twistd_unix import ServerOptions, UnixApplicationRunner, UnixAppLogger

from imgservice.commands.accounts import account_options, checked_group
from imgservice.commands.process import CONFIG
from imgservice.wiring.launch import make_service
from imgservice.wiring.main_process import ProcessOptions


@click.command()
@CONFIG
@account_options
def run(config: Path | None, uid: int | None, gid: int | None) -> None:
    """Run the service in the foreground, until a signal ends it.

    TERM and INT (Ctrl-C) finish requests first, for up to `server.shutdown_grace` seconds; a second
    Ctrl-C ends at once. HUP reads the configuration again.
    """
    runner = _Runner(config, uid, checked_group(uid, gid))
    runner.run()
    if runner._exitSignal is not None:
        app._exitWithSignal(runner._exitSignal)


class _Logger(UnixAppLogger):
    def _initialLog(self) -> None:
        """Leave the first word to the service."""


class _Runner(UnixApplicationRunner):
    """Runs our service as twistd would, but reads no plugins and writes no pid file."""

    loggerFactory = _Logger

    def __init__(self, path: Path | None, uid: int | None, gid: int | None) -> None:
        options = ServerOptions()  # what it holds before it reads a command line
        options.update(nodaemon=True, pidfile="", no_save=True, uid=uid, gid=gid)
        super().__init__(options)
        self._path = path
        self._process = ProcessOptions(log_file=None, is_daemon=False, uid=uid, gid=gid)

    def createOrGetApplication(self) -> Any:
        application = Application("imgservice")
        make_service(self._path, self._process).setServiceParent(application)
        return application
