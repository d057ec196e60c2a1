"""The command `imgservice`, for what an operator does beside running the service."""

from pathlib import Path
from typing import Any

import attrs
import click
import yaml

from imgservice import __version__
from imgservice.config import Config, ConfigError, StoreEntry, load, located
from imgservice.domain.units import Secret
from imgservice.preflight import check_database, check_stores, check_values, endpoints


@click.group()
@click.version_option(__version__)
def main() -> None:
    """Look after an image service; `twistd imgservice` runs it."""


@main.command()
@click.option("--config", "-c", type=click.Path(path_type=Path), help="The configuration file.")
def check(config: Path | None) -> None:
    """Check the configuration, the database and every store, and print the effective options.

    Changes nothing, except that missing directories of file stores are created.
    """
    from twisted.internet import reactor

    try:
        loaded = load(config)
        click.echo(yaml.safe_dump(effective(loaded), sort_keys=False, allow_unicode=True).rstrip())
        check_values(loaded)
        endpoints(loaded, reactor)
        check_database(loaded)
        check_stores(loaded)
    except ConfigError as error:
        for line in located(config, error).splitlines():
            click.echo(f"imgservice: {line}", err=True)
        raise SystemExit(1) from None
    click.echo("imgservice: the configuration, the database and all stores are usable", err=True)


@main.command("sample")
def print_sample() -> None:
    """Print a configuration file with every key, its default and what it does."""
    from imgservice.sample import sample

    click.echo(sample(), nl=False)


def effective(config: Config) -> Any:
    """Return all options with the values that hold, as plain data; secrets are masked."""
    return _plain(config)


def _plain(value: Any) -> Any:
    if isinstance(value, Secret):
        return repr(value)
    if isinstance(value, StoreEntry):
        return {"type": value.type, **_plain(value.options)}
    if attrs.has(type(value)):
        return {
            field.name.rstrip("_"): _plain(getattr(value, field.name))
            for field in attrs.fields(type(value))
        }
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    return value
