"""`imgservice run`: the service in the foreground."""

import os
import pwd
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from twisted.application import app
from twisted.application.service import Application
from twisted.python.util import gidFromString, uidFromString
from twisted.scripts._twistd_unix import ServerOptions, UnixApplicationRunner, UnixAppLogger

from imgservice.commands.process import CONFIG
from imgservice.launch import ProcessOptions, make_service


class _Account(click.ParamType[int]):
    """A user or a group: its name or its number."""

    def __init__(self, name: str, read: Callable[[str], int]) -> None:
        self.name = name
        self._read = read

    def convert(self, value: Any, param: Any, ctx: Any) -> int:
        try:
            return self._read(value)
        except KeyError:
            self.fail(f"there is no {self.name} {value!r}", param, ctx)


@click.command()
@CONFIG
@click.option(
    "--uid",
    "-u",
    type=_Account("user", uidFromString),
    metavar="USER",
    help="The user to become once the addresses are bound; takes root.",
)
@click.option(
    "--gid", "-g", type=_Account("group", gidFromString), metavar="GROUP",
    help="The group to become; else that of the user.",
)  # fmt: skip
def run(config: Path | None, uid: int | None, gid: int | None) -> None:
    """Run the service in the foreground, until a signal ends it.

    TERM and INT (Ctrl-C) finish requests first, for up to `server.shutdown_grace` seconds; a second
    Ctrl-C ends at once. HUP reads the configuration again.
    """
    if (uid, gid) != (None, None) and os.geteuid() != 0:
        raise click.ClickException("only root can become another user; leave out --uid and --gid")
    if uid is not None and gid is None:
        gid = _group_of(uid)
    runner = _Runner(config, uid, gid)
    runner.run()
    if runner._exitSignal is not None:
        app._exitWithSignal(runner._exitSignal)


def _group_of(uid: int) -> int:
    try:
        return pwd.getpwuid(uid).pw_gid
    except KeyError:
        raise click.ClickException(f"there is no user {uid}: say which --gid to use") from None


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
