"""`imgservice check`: checks whether the service can run with a configuration."""

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import attrs
import click
import yaml
from twisted.python.util import switchUID

from imgservice.commands.accounts import account_options, checked_group
from imgservice.commands.configuration import CONFIG, report, reported, tell, warn
from imgservice.concurrency.clock import make_monotonic
from imgservice.config.errors import ConfigError
from imgservice.config.loader import load
from imgservice.config.sections import Config
from imgservice.config.sections.stores import StoreEntry
from imgservice.domain.options import key
from imgservice.domain.units import Secret
from imgservice.process.tls.material import doubts
from imgservice.wiring.listen import tls_material
from imgservice.wiring.preflight import check_database, check_servers
from imgservice.wiring.trial import check_stores, try_build
from imgservice.wiring.writable import (
    check_database_files,
    check_log_file,
    check_sockets,
    check_state_file,
)


@click.command()
@CONFIG
@account_options
@click.option("--quiet", "-q", is_flag=True, help="Do not print the effective options.")
def check(config: Path | None, uid: int | None, gid: int | None, quiet: bool) -> None:
    """Check whether the service can run with a configuration, and print its effective options.

    Checks the configuration and the files that it names, the database, every store, and Keystone if
    it is used, as the user that runs this command or as the one that --uid names.

    Changes nothing, but creates missing directories of file stores.
    """
    gid = checked_group(uid, gid)
    with reported(config):
        loaded = load(config)
    if not quiet:
        click.echo(yaml.safe_dump(effective(loaded), sort_keys=False, allow_unicode=True).rstrip())
    mistakes = [*_found(loaded, AS_STARTED)]
    if uid is not None or gid is not None:
        switchUID(uid, gid)
    mistakes += _found(loaded, AS_RUNNING)
    if not mistakes:
        mistakes += _found(loaded, OUTSIDE)
    report(config, mistakes)
    if mistakes:
        raise SystemExit(1)
    tell("the configuration, the database and all stores are usable")


def _check_tls(config: Config) -> None:
    material = tls_material(config)
    for doubt in doubts(material, datetime.now(UTC)) if material else ():
        warn(doubt)


def _try_build(config: Config) -> None:
    try_build(config, warn)


def _check_servers(config: Config) -> None:
    from twisted.internet import reactor

    make_monotonic(reactor)
    check_servers(config, reactor)


Check = Callable[[Config], None]
AS_STARTED: Sequence[Check] = (_check_tls, check_log_file, check_sockets)
"""What is read and opened before the service changes to another user."""
AS_RUNNING: Sequence[Check] = (_try_build, check_database_files, check_state_file)
OUTSIDE: Sequence[Check] = (check_database, check_stores, _check_servers)
"""What is only checked if the configuration has no mistakes."""


def _found(config: Config, checks: Sequence[Check]) -> Iterator[ConfigError]:
    for one in checks:
        try:
            one(config)
        except ConfigError as error:
            yield error


def effective(config: Config) -> Any:
    """Return all options with their effective values, as plain data; secrets are masked."""
    return _plain(config)


def _plain(value: object) -> Any:
    if isinstance(value, Secret):
        return repr(value)
    if isinstance(value, StoreEntry):
        return {"type": value.type, **_plain(value.options)}
    kind = type(value)
    if attrs.has(kind):
        return {key(field): _plain(getattr(value, field.name)) for field in attrs.fields(kind)}
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    return value
