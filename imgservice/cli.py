"""The command `imgservice`."""

from collections.abc import Mapping
from importlib import import_module

import click

from imgservice import __version__
from imgservice.concurrency.importing import without_collections

COMMANDS: Mapping[str, str] = {
    "check": "check:check",
    "convert-config": "convert:convert_config",
    "db": "db:db",
    "drain": "process:drain",
    "policy": "policy:policy",
    "run": "run:run",
    "sample": "sample:sample",
    "status": "process:status",
    "token": "token:token",
}
"""The module and the function of each command, in `imgservice.commands`."""


class _OnDemand(click.Group):
    """Imports a command only when it is called: most need only a small part of the service."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name].partition(":")
        with without_collections():
            found: click.Command = getattr(import_module(f"imgservice.commands.{module}"), name)
        return found


@click.group(cls=_OnDemand, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def main() -> None:
    """Run and administer an image service."""
