"""`imgservice token`: administers the file of static tokens."""

import re
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Concatenate, ParamSpec

import click

from imgservice.auth import tokens
from imgservice.commands.configuration import CONFIG
from imgservice.concurrency.file_watch import Unreadable
from imgservice.config.errors import ConfigError
from imgservice.config.loader import load, located

P = ParamSpec("P")
_UNITS = {"m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


class Lifetime(click.ParamType[float]):
    name = "lifetime"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        matched = re.fullmatch(r"([1-9]\d{0,5})([mhdw])", str(value))
        if matched is None:
            self.fail("expected minutes, hours, days or weeks, as in 30d", param, ctx)
        return float(matched[1]) * _UNITS[matched[2]]


@click.group()
def token() -> None:
    """Create, list and revoke static tokens, for `auth.mode: tokens`.

    Changes apply to a running service within seconds.
    """


def _with_file(command: Callable[Concatenate[Path, P], None]) -> Callable[..., None]:
    """Add the options for the tokens file, and report mistakes without a traceback."""

    @CONFIG
    @click.option(
        "--file",
        "-f",
        type=click.Path(path_type=Path),
        help="The tokens file, instead of --config.",
    )
    @wraps(command)
    def with_file(
        config: Path | None, file: Path | None, *arguments: P.args, **options: P.kwargs
    ) -> None:
        try:
            command(_file(config, file), *arguments, **options)
        except ConfigError as error:
            raise click.ClickException(located(config, error)) from None
        except (Unreadable, ValueError) as error:
            raise click.ClickException(str(error)) from None

    return with_file


def _file(config: Path | None, file: Path | None) -> Path:
    named = load(config).auth.tokens.file if file is None and config is not None else file
    if named is None:
        raise click.UsageError("specify --file FILE, or --config FILE with auth.tokens.file set")
    return Path(named)


@token.command()
@_with_file
@click.option("--project", "-p", required=True, help="The project of the token.")
@click.option(
    "--role",
    "-r",
    "roles",
    multiple=True,
    required=True,
    help="A role of the token; may be repeated.",
)
@click.option("--user", "-u", help="The user of the token; by default the name of the project.")
@click.option(
    "--expires", type=Lifetime(), help="How long it is valid, such as 30d; by default forever."
)
@click.option("--description", default="", help="The purpose of the token.")
def create(
    file: Path,
    project: str,
    roles: tuple[str, ...],
    user: str | None,
    expires: float | None,
    description: str,
) -> None:
    """Create a token, and print it: only now, since the file has only its hash."""
    made, text = tokens.create(file, user or project, project, roles, expires, description)
    click.echo(
        f"id {made.id}, expires: {made.expires or 'never'}; the token is not shown again:", err=True
    )
    click.echo(text)


@token.command("list")
@_with_file
def list_tokens(file: Path) -> None:
    """List all tokens, without the tokens themselves."""
    rows = [("ID", "USER", "PROJECT", "ROLES", "CREATED", "EXPIRES", "DESCRIPTION")]
    for one in tokens.read_tokens(file):
        roles = ",".join(one.roles)
        end = (one.expires or "never") + (" (expired)" if one.has_expired() else "")
        rows.append((one.id, one.user, one.project, roles, one.created, end, one.description))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        padded = (text.ljust(width) for text, width in zip(row, widths, strict=True))
        click.echo("  ".join(padded).rstrip())


@token.command()
@_with_file
@click.argument("ids", nargs=-1, required=True)
def revoke(file: Path, ids: tuple[str, ...]) -> None:
    """Revoke tokens by their ids."""
    for token_id in ids:
        if not tokens.revoke(file, token_id):
            raise click.ClickException(f"{file}: there is no token {token_id}")
