"""The options for the user and the group that the service runs as."""

import os
import pwd
from collections.abc import Callable
from typing import TypeVar

import click
from twisted.python.util import gidFromString, uidFromString

Command = TypeVar("Command", bound=Callable[..., None])


class Account(click.ParamType[int]):
    """A user or a group, by name or number."""

    def __init__(self, name: str, read: Callable[[str], int]) -> None:
        self.name = name
        self._read = read

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        try:
            return self._read(str(value))
        except KeyError:
            self.fail(f"there is no {self.name} {value!r}", param, ctx)


USER = Account("user", uidFromString)
GROUP = Account("group", gidFromString)


def account_options(command: Command) -> Command:
    """Add --uid and --gid."""
    for option in (
        click.option(
            "--gid", "-g", type=GROUP, metavar="GROUP",
            help="The group to run as; by default that of the user.",
        ),
        click.option(
            "--uid", "-u", type=USER, metavar="USER",
            help="The user to run as once the addresses are bound; needs root.",
        ),
    ):  # fmt: skip
        command = option(command)
    return command


def checked_group(uid: int | None, gid: int | None) -> int | None:
    """Return the group to run as; `ClickException` if this user cannot change to it."""
    if (uid, gid) != (None, None) and os.geteuid() != 0:
        raise click.ClickException("only root can run as another user: omit --uid and --gid")
    if uid is None or gid is not None:
        return gid
    try:
        return pwd.getpwuid(uid).pw_gid
    except KeyError:
        raise click.ClickException(f"there is no user {uid}: specify --gid") from None
