"""The process that forks the `openstack` command, whose imports take a second."""

import socket
import sys
from contextlib import suppress
from importlib.metadata import entry_points

from imgservice.process.fork_server import ignore_group_signals, serve
from tests.real.warm import settle

PLUGINS = ("openstack.", "keystoneauth1.", "cliff.formatter.")


def _run() -> int:
    from openstackclient.shell import main

    settle()
    return int(main())


def _import_everything() -> None:
    import openstackclient.shell  # noqa: F401

    found = entry_points()
    for group in found.groups:
        for plugin in found.select(group=group) if group.startswith(PLUGINS) else ():
            with suppress(Exception):  # some need what is not installed
                plugin.load()


if __name__ == "__main__":
    ignore_group_signals()
    _import_everything()
    sys.exit(serve(socket.socket(fileno=int(sys.argv[1])), _run))
