"""The options that name the user who runs the service."""

import os
import pwd
from collections.abc import Callable
from typing import Any, TypeVar

import click
from twisted.python.util import gidFromString, uidFromString

Command = TypeVar("Command", bound=Callable[..., None])


class Account(click.ParamType[int]):
    """A user or a group: its name or its number."""

    def __init__(self, name: str, read: Callable[[str], int]) -> None:
        self.name = name
        self._read = read

    def convert(self, value: Any, param: Any, ctx: Any) -> int:
        try:
            return self._read(value)
        except KeyError:
            self.fail(f"there is no {self.name} {value!r}", param, ctx)


USER = Account("user", uidFromString)
GROUP = Account("group", gidFromString)


def account_options(command: Command) -> Command:
    """Add --uid and --gid."""
    for option in (
        click.option(
            "--gid", "-g", type=GROUP, metavar="GROUP",
            help="The group to become; else that of the user.",
        ),
        click.option(
            "--uid", "-u", type=USER, metavar="USER",
            help="The user to become once the addresses are bound; takes root.",
        ),
    ):  # fmt: skip
        command = option(command)
    return command


def checked_group(uid: int | None, gid: int | None) -> int | None:
    """Return the group to become; complain where nobody can become the user."""
    if (uid, gid) != (None, None) and os.geteuid() != 0:
        raise click.ClickException("only root can become another user; leave out --uid and --gid")
    if uid is None or gid is not None:
        return gid
    try:
        return pwd.getpwuid(uid).pw_gid
    except KeyError:
        raise click.ClickException(f"there is no user {uid}: say which --gid to use") from None
