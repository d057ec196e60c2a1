"""`imgservice db check`, `version` and `sync`: the tables."""

import click

from imgservice.commands.configuration import with_config
from imgservice.commands.db.connection import with_url
from imgservice.db.schema.status import advice, schema_status
from imgservice.db.schema.upgrade import SchemaState, read_state, upgrade


@click.command()
@with_config
@with_url
def check(url: str) -> None:
    """Print whether the tables are up to date, and what to do if not.

    Exit codes, as of glance-manage: 0 up to date, 3 Glance's tables are older or missing, 5 the
    upgrade of Glance's tables is not finished (the service runs nevertheless); also 6 if the
    tables imgsvc_* are older or missing, and 1 if the database cannot be used. Changes nothing.
    """
    state = read_state(url)
    found = schema_status(state)
    click.echo(advice(state, found))
    raise SystemExit(found)


@click.command()
@with_config
@with_url
def version(url: str) -> None:
    """Print the revisions of Glance's tables and of the tables imgsvc_*."""
    _print_revisions(read_state(url))


def _print_revisions(state: SchemaState) -> None:
    for name, revisions in (("glance", state.glance), ("imgservice", state.own)):
        click.echo(f"{name:10}  {' '.join(sorted(revisions)) or 'none'}")


@click.command()
@with_config
@with_url
def sync(url: str) -> None:
    """Create or complete the tables, as every start of the service does.

    Glance's tables are created in an empty database, and never changed in any other.
    """
    before = read_state(url)
    upgrade(url)
    after = read_state(url)
    is_same = (before.glance, before.own) == (after.glance, after.own)
    click.echo("The database was up to date." if is_same else "The database is up to date now.")
    _print_revisions(after)
