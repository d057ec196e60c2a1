"""`imgservice check`: whether the service could run with a configuration."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

import attrs
import click
import yaml

from imgservice.build.policy import has_policies, read_policies
from imgservice.clock import make_monotonic
from imgservice.commands.policy import warn
from imgservice.commands.process import CONFIG
from imgservice.config import ConfigError, load, located
from imgservice.domain.units import Secret
from imgservice.options import Config, StoreEntry
from imgservice.preflight import (
    check_database,
    check_keystone,
    check_stores,
    check_values,
    tls_material,
)
from imgservice.process.tls import doubts


@click.command()
@CONFIG
def check(config: Path | None) -> None:
    """Check the configuration, the database, every store, and Keystone if it is used.

    Prints the effective options.

    Changes nothing, except that missing directories of file stores are created.
    """
    from twisted.internet import reactor

    make_monotonic(reactor)
    try:
        loaded = load(config)
        click.echo(yaml.safe_dump(effective(loaded), sort_keys=False, allow_unicode=True).rstrip())
        check_values(loaded)
        for doubt in read_policies(loaded).doubts if has_policies(loaded) else ():
            warn(doubt)
        material = tls_material(loaded)
        for doubt in doubts(material, datetime.now(UTC)) if material else ():
            warn(doubt)
        check_database(loaded)
        check_stores(loaded)
        check_keystone(loaded, reactor)
    except ConfigError as error:
        _fail(config, error)
    click.echo("imgservice: the configuration, the database and all stores are usable", err=True)


def _fail(config: Path | None, error: ConfigError) -> NoReturn:
    for line in located(config, error).splitlines():
        click.echo(f"imgservice: {line}", err=True)
    raise SystemExit(1) from None


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
