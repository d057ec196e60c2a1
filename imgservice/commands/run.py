"""`imgservice run`: runs the service in the foreground."""

from pathlib import Path

import click
from twisted.application import app
from twisted.application.service import Application
from twisted.scripts._twistd_unix import ServerOptions, UnixApplicationRunner, UnixAppLogger

from imgservice.commands.accounts import account_options, checked_group
from imgservice.commands.configuration import CONFIG
from imgservice.wiring.launch import make_service
from imgservice.wiring.main_process import ProcessOptions


@click.command()
@CONFIG
@account_options
def run(config: Path | None, uid: int | None, gid: int | None) -> None:
    """Run the service in the foreground until it gets a signal.

    TERM and INT (Ctrl-C) stop it after running requests have finished, for up to
    `server.shutdown_grace` seconds; a second Ctrl-C stops it immediately. HUP reads the
    configuration again.
    """
    runner = _Runner(config, uid, checked_group(uid, gid))
    runner.run()
    if runner._exitSignal is not None:
        app._exitWithSignal(runner._exitSignal)


class _Logger(UnixAppLogger):
    def _initialLog(self) -> None:
        """Log nothing: the service logs its own start."""


class _Runner(UnixApplicationRunner):
    """Runs the service as twistd does, but without plugins and a pid file."""

    loggerFactory = _Logger

    def __init__(self, path: Path | None, uid: int | None, gid: int | None) -> None:
        options = ServerOptions()  # the defaults, as there is no command line
        options.update(nodaemon=True, pidfile="", no_save=True, uid=uid, gid=gid)
        super().__init__(options)
        self._path = path
        self._process = ProcessOptions(log_file=None, is_daemon=False, uid=uid, gid=gid)

    def createOrGetApplication(self) -> object:
        application = Application("imgservice")
        make_service(self._path, self._process).setServiceParent(application)
        return application
