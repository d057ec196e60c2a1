"""`imgservice db index`: adds and drops optional indexes."""

from collections.abc import Iterable

import click

from imgservice.commands.configuration import with_config
from imgservice.commands.db.connection import DRY_RUN, with_url
from imgservice.db.schema.indexes import (
    EXTRA_INDEXES,
    ExtraIndex,
    add_indexes,
    drop_indexes,
    possible_indexes,
    present_indexes,
)


@click.group()
def index() -> None:
    """Add or drop optional indexes, which make some lists faster.

    Nothing depends on them. Their names are imgsvc_*, and Glance ignores them in a shared database.
    The service may run meanwhile.
    """


@index.command("list")
@with_config
@with_url
def list_extra(url: str) -> None:
    """List the indexes, whether each is present, and its purpose."""
    present, possible = present_indexes(url), possible_indexes(url)
    for one in EXTRA_INDEXES:
        state = "present" if one.name in present else "missing"
        state = state if one in possible else "left out"
        click.echo(f"{state:8}  {one.name:30}  {one.purpose}")


@index.command()
@with_config
@with_url
@DRY_RUN
def add(url: str, dry_run: bool) -> None:
    """Create the missing indexes.

    On SQLite nothing can be written while an index is created. MariaDB does not support indexes on
    expressions; those are left out.
    """
    possible = possible_indexes(url)
    if dry_run:
        present = present_indexes(url)
        _print_indexes("would add", (one for one in possible if one.name not in present))
    else:
        _print_indexes("added", add_indexes(url))
    for one in EXTRA_INDEXES:
        if one not in possible:
            click.echo(f"left out {one.name} on {one.table.name}: MariaDB does not support it")


@index.command()
@with_config
@with_url
@DRY_RUN
def drop(url: str, dry_run: bool) -> None:
    """Drop the indexes that are present."""
    if dry_run:
        present = present_indexes(url)
        _print_indexes("would drop", (one for one in EXTRA_INDEXES if one.name in present))
    else:
        _print_indexes("dropped", drop_indexes(url))


def _print_indexes(verb: str, indexes: Iterable[ExtraIndex]) -> None:
    """Print each index as soon as it is done."""
    is_any = False
    for one in indexes:
        is_any = True
        click.echo(f"{verb} {one.name} on {one.table.name}")
    if not is_any:
        click.echo("nothing to do")
