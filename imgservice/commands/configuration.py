"""The option that names the configuration file, and how commands report mistakes in it."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Concatenate, ParamSpec

import click

from imgservice.config.errors import ConfigError
from imgservice.config.loader import load, located
from imgservice.config.sections import Config

P = ParamSpec("P")
CONFIG = click.option(
    "--config", "-c", type=click.Path(path_type=Path), help="The configuration file."
)


def with_config(
    command: Callable[Concatenate[Config, P], None], exit_code: int = 1
) -> Callable[..., None]:
    """Load the configuration for a command; it ends with the exit code if that has a mistake."""

    @CONFIG
    @wraps(command)
    def configured(config: Path | None, *arguments: P.args, **options: P.kwargs) -> None:
        with reported(config, exit_code):
            command(load(config), *arguments, **options)

    return configured


@contextmanager
def reported(config: Path | None, exit_code: int = 1) -> Iterator[None]:
    """Report a mistake in the configuration without a traceback, and end the command."""
    try:
        yield
    except ConfigError as error:
        report(config, [error])
        raise SystemExit(exit_code) from None


def report(config: Path | None, errors: Iterable[ConfigError]) -> None:
    """Print mistakes with their lines; each once, though several checks may find it."""
    lines = [line for error in errors for line in located(config, error).splitlines()]
    for line in dict.fromkeys(lines):
        tell(line)


def warn(warning: str) -> None:
    tell(f"warning: {warning}")


def tell(line: str) -> None:
    """Print a line that is not part of a command's result."""
    click.echo(f"imgservice: {line}", err=True)
