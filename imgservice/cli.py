"""The command `imgservice`, for what an operator does beside running the service."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import attrs
import click
import yaml

from imgservice import __version__
from imgservice.build.policy import has_policies, read_policies
from imgservice.commands.policy import policy, warn
from imgservice.commands.token import token
from imgservice.config import ConfigError, OptionError, load, located
from imgservice.db.indexes import (
    EXTRA_INDEXES,
    ExtraIndex,
    add_indexes,
    drop_indexes,
    present_indexes,
)
from imgservice.db.upgrade import SchemaError
from imgservice.db.url import UrlError
from imgservice.domain.units import Secret
from imgservice.options import Config, StoreEntry
from imgservice.preflight import (
    check_database,
    check_keystone,
    check_stores,
    check_values,
    endpoints,
)

_CONFIG = click.option(
    "--config", "-c", type=click.Path(path_type=Path), help="The configuration file."
)
_DRY_RUN = click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")


@click.group()
@click.version_option(__version__)
def main() -> None:
    """Look after an image service; `twistd imgservice` runs it."""


@main.command()
@_CONFIG
def check(config: Path | None) -> None:
    """Check the configuration, the database, every store, and Keystone if it is used.

    Prints the effective options.

    Changes nothing, except that missing directories of file stores are created.
    """
    from twisted.internet import reactor

    try:
        loaded = load(config)
        click.echo(yaml.safe_dump(effective(loaded), sort_keys=False, allow_unicode=True).rstrip())
        check_values(loaded)
        for doubt in read_policies(loaded).doubts if has_policies(loaded) else ():
            warn(doubt)
        endpoints(loaded, reactor)
        check_database(loaded)
        check_stores(loaded)
        check_keystone(loaded, reactor)
    except ConfigError as error:
        _fail(config, error)
    click.echo("imgservice: the configuration, the database and all stores are usable", err=True)


@main.command("sample")
def print_sample() -> None:
    """Print a configuration file with every key, its default and what it does."""
    from imgservice.sample import sample

    click.echo(sample(), nl=False)


main.add_command(policy)
main.add_command(token)


@main.group()
def db() -> None:
    """Look after the database."""


@db.group()
def index() -> None:
    """Add or drop indexes of our own, which make some lists faster.

    Nothing depends on them. A database that Glance uses too keeps its own; these are called
    imgsvc_*, and Glance does not mind them. The service may run meanwhile.
    """


@index.command("list")
@_CONFIG
def list_extra(config: Path | None) -> None:
    """Say which of the indexes are there, and what each is good for."""
    with _database(config) as url:
        present = present_indexes(url)
        for one in EXTRA_INDEXES:
            state = "present" if one.name in present else "missing"
            click.echo(f"{state}  {one.name:30}  {one.purpose}")


@index.command()
@_CONFIG
@_DRY_RUN
def add(config: Path | None, dry_run: bool) -> None:
    """Make the indexes that are missing; nothing can be written while one is made."""
    with _database(config) as url:
        if dry_run:
            present = present_indexes(url)
            _tell("would add", (one for one in EXTRA_INDEXES if one.name not in present))
        else:
            _tell("added", add_indexes(url))


@index.command()
@_CONFIG
@_DRY_RUN
def drop(config: Path | None, dry_run: bool) -> None:
    """Remove the indexes that are there."""
    with _database(config) as url:
        if dry_run:
            present = present_indexes(url)
            _tell("would drop", (one for one in EXTRA_INDEXES if one.name in present))
        else:
            _tell("dropped", drop_indexes(url))


@contextmanager
def _database(config: Path | None) -> Iterator[str]:
    """Give the URL of the configured database; say in one line what is wrong with it."""
    try:
        url = load(config).database.url.reveal()
        try:
            yield url
        except (SchemaError, UrlError) as error:
            raise OptionError(("database", "url"), str(error)) from None
    except ConfigError as error:
        _fail(config, error)


def _tell(verb: str, indexes: Iterable[ExtraIndex]) -> None:
    """Say each of them when it is done."""
    is_any = False
    for one in indexes:
        is_any = True
        click.echo(f"{verb} {one.name} on {one.table.name}")
    if not is_any:
        click.echo("nothing to do")


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
