"""`imgservice db stats`: what the database contains."""

import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime

import attrs
import click

from imgservice.commands.configuration import with_config
from imgservice.commands.db.connection import with_url
from imgservice.db.admin.statistics import Counted, Statistics, count_everything
from imgservice.db.repositories.rows import utc_now


@click.command()
@with_config
@with_url
@click.option("--json", "is_json", is_flag=True, help="Print JSON.")
def stats(url: str, is_json: bool) -> None:
    """Count rows by table and status, the data in each store, and work in progress."""
    found = count_everything(url)
    if is_json:
        click.echo(json.dumps(attrs.asdict(found), default=_text, indent=2))
        return
    click.echo("\n".join(_aligned(_table_rows(found))))
    for some, rows in ((found.stores, _store_rows(found)), (found.leases, _job_rows(found))):
        if some:
            click.echo("\n" + "\n".join(_aligned(rows)))


def _table_rows(found: Statistics) -> Iterator[Sequence[object]]:
    yield "TABLE", "STATUS", "LIVE", "DELETED", "OLDEST DELETED"
    for one in found.tables:
        yield one.table, one.status or "", one.live, one.deleted, _oldest(one)


def _oldest(one: Counted) -> str:
    if one.oldest_deleted is None:
        return ""
    return f"{_text(one.oldest_deleted)} ({(utc_now() - one.oldest_deleted).days} days)"


def _store_rows(found: Statistics) -> Iterator[Sequence[object]]:
    yield "STORE", "LOCATIONS", "BYTES"
    for one in found.stores:
        yield one.store or "(not named)", one.locations, one.bytes


def _job_rows(found: Statistics) -> Iterator[Sequence[object]]:
    yield "JOB", "COUNT", "EXPIRED", "WAITING", "OLDEST"
    for one in found.leases:
        yield one.kind, one.count, one.expired, one.waiting, _text(one.oldest)


def _text(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds") + "Z"


def _aligned(rows: Iterable[Sequence[object]]) -> Iterator[str]:
    """Align text to the left and numbers to the right of their column."""
    lines = list(rows)
    widths = [max(len(str(cell)) for cell in column) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = (
            str(cell).rjust(width) if isinstance(cell, int) else str(cell).ljust(width)
            for cell, width in zip(line, widths, strict=True)
        )
        yield "  ".join(cells).rstrip()
