"""`imgservice db`: looks after the database."""

import json
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import wraps
from pathlib import Path
from typing import Any

import attrs
import click

from imgservice.config.errors import ConfigError, OptionError
from imgservice.config.loader import load, located
from imgservice.db.admin.purge import IMAGES, PARTS, Part, Purge
from imgservice.db.admin.statistics import Counted, Statistics, count_everything
from imgservice.db.engine.url import UrlError
from imgservice.db.repositories.images import utc_now
from imgservice.db.schema.indexes import (
    EXTRA_INDEXES,
    ExtraIndex,
    add_indexes,
    drop_indexes,
    possible_indexes,
    present_indexes,
)
from imgservice.db.schema.status import advice, standing
from imgservice.db.schema.upgrade import SchemaError, State, look, upgrade

_DRY_RUN = click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
_SECONDS_A_DAY = 86400
_REASONS = {
    "data": "the data of the image is still to be removed",
    "belongings": "`imgservice db purge` has to remove first what belongs to them",
}
"""Why rows that are old enough stay."""


@click.group()
def db() -> None:
    """Look after the database."""


def _with_url(command: Callable[..., None]) -> Callable[..., None]:
    """Add the option that names the configuration, and tell in one line what is wrong."""

    @click.option("--config", "-c", type=click.Path(path_type=Path), help="The configuration file.")
    @wraps(command)
    def with_url(config: Path | None, **options: Any) -> None:
        try:
            url = load(config).database.url.reveal()
            with _naming_the_option():
                command(url, **options)
        except ConfigError as error:
            for line in located(config, error).splitlines():
                click.echo(f"imgservice: {line}", err=True)
            raise SystemExit(1) from None

    return with_url


@contextmanager
def _naming_the_option() -> Iterator[None]:
    try:
        yield
    except (SchemaError, UrlError) as error:
        raise OptionError(("database", "url"), str(error)) from None


# -- the tables -----------------------------------------------------------------------------------


@db.command()
@_with_url
def check(url: str) -> None:
    """Say whether the tables are up to date, and what to do if not.

    Exit codes, as of glance-manage: 0 up to date, 3 Glance's tables are older or not there, 5 the
    upgrade of Glance's tables is not finished (the service runs nevertheless); and 6 for tables of
    our own that are older or not there, 1 for a database that cannot be used. Changes nothing.
    """
    state = look(url)
    found = standing(state)
    click.echo(advice(state, found))
    raise SystemExit(found)


@db.command()
@_with_url
def version(url: str) -> None:
    """Print the revisions of Glance's tables and of ours."""
    _tell_revisions(look(url))


def _tell_revisions(state: State) -> None:
    for name, revisions in (("glance", state.glance), ("imgservice", state.own)):
        click.echo(f"{name:10}  {' '.join(sorted(revisions)) or 'none'}")


@db.command("sync")
@_with_url
def sync(url: str) -> None:
    """Create or complete the tables, as every start of the service does.

    Glance's tables are created in an empty database, and never changed in any other.
    """
    before = look(url)
    upgrade(url)
    after = look(url)
    is_same = (before.glance, before.own) == (after.glance, after.own)
    click.echo("The database was up to date." if is_same else "The database is up to date now.")
    _tell_revisions(after)


db.add_command(sync, "upgrade")


# -- rows that were deleted long ago --------------------------------------------------------------


def _purge_options(days: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add the options of `glance-manage`, in its spelling, too, and ours."""

    def add(command: Callable[..., None]) -> Callable[..., None]:
        for option in (
            click.option("--pause", type=click.FloatRange(0), default=0.1, show_default=True,
                         help="Seconds for others after each transaction."),
            _DRY_RUN,
            click.option("--max-rows", "--max_rows", type=click.IntRange(-1), default=100,
                         show_default=True, help="Of each table; -1 for all."),
            click.option("--age-in-days", "--age_in_days", type=click.IntRange(0), default=days,
                         show_default=True, help="Only what was deleted before."),
        ):  # fmt: skip
            command = option(command)
        return command

    return add


@db.command()
@_with_url
@_purge_options(days=30)
def purge(url: str, **options: Any) -> None:
    """Remove for good what was deleted long ago, except images themselves.

    Members, properties, tags, locations and tasks that are marked as deleted go, the oldest first,
    in small transactions; the service may run meanwhile. Interrupted, it goes on with the next run.
    """
    _purge(url, PARTS, **options)


@db.command("purge-images")
@_with_url
@_purge_options(days=180)
def purge_images(url: str, **options: Any) -> None:
    """Remove for good the rows of images that were deleted long ago.

    After that their ids can be used again, by whoever asks for one: choose an age at which nobody
    believes in them any more. What belongs to an image has to be purged before.
    """
    _purge(url, IMAGES, **options)


def _purge(
    url: str,
    parts: Sequence[Part],
    age_in_days: int,
    max_rows: int,
    dry_run: bool,
    pause: float,
) -> None:
    purge = Purge(url, parts, _days_ago(age_in_days), None if max_rows == -1 else max_rows)
    waiting = purge.waiting()
    if dry_run:
        _tell_rows(waiting, "would be removed")
    else:
        _remove(purge, pause, waiting)
    for table, reason, count in purge.staying():
        click.echo(f"{table}: {count} stay: {_REASONS[reason]}")


def _days_ago(days: int) -> datetime:
    if days >= time.time() / _SECONDS_A_DAY:
        raise click.BadParameter("is before 1970", param_hint="--age-in-days")
    return utc_now() - timedelta(days=days)


def _remove(purge: Purge, pause: float, waiting: Mapping[str, int]) -> None:
    gone = Counter(dict.fromkeys(waiting, 0))
    with _stop_signals() as stop, _progress(sum(waiting.values())) as advance:
        for removed in purge.run(pause, stop.wait):
            gone.update(removed)
            advance(sum(removed.values()))
    _tell_rows(gone, "removed")
    if stop.signal is not None:
        click.echo("imgservice: interrupted; the next run goes on", err=True)
        raise SystemExit(128 + stop.signal)


@attrs.define
class _Stop:
    """Whether somebody has asked to stop, and by which signal."""

    signal: int | None = None

    def wait(self, seconds: float) -> bool:
        """Sleep, but not on after a signal; a handler of signals must not touch a lock."""
        end = time.monotonic() + seconds
        while self.signal is None and (left := end - time.monotonic()) > 0:
            time.sleep(min(left, 0.1))
        return self.signal is not None


@contextmanager
def _stop_signals() -> Iterator[_Stop]:
    """Let the first signal wait for the end of a transaction; a second one kills as usual."""
    stop = _Stop()
    before: dict[int, Any] = {}

    def ask(number: int, frame: object) -> None:
        stop.signal = number
        put_back()

    def put_back() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    for number in (signal.SIGINT, signal.SIGTERM):
        before[number] = signal.signal(number, ask)
    try:
        yield stop
    finally:
        put_back()


def _tell_rows(counts: Mapping[str, int], what: str) -> None:
    for table, count in counts.items():
        click.echo(f"{table}: {count} {what}")


@contextmanager
def _progress(length: int) -> Iterator[Callable[[int], None]]:
    """Give what moves a bar, which is only drawn on a terminal."""
    if not sys.stderr.isatty():
        yield lambda steps: None
        return
    with click.progressbar(length=length, label="Removing", file=sys.stderr) as bar:
        yield bar.update


# -- what there is --------------------------------------------------------------------------------


@db.command()
@_with_url
@click.option("--json", "is_json", is_flag=True, help="For programs.")
def stats(url: str, is_json: bool) -> None:
    """Count rows by table and status, the data in each store, and the work that is under way."""
    found = count_everything(url)
    if is_json:
        click.echo(json.dumps(attrs.asdict(found), default=_text, indent=2))
        return
    click.echo("\n".join(_aligned(_table_rows(found))))
    for some, rows in ((found.stores, _store_rows(found)), (found.leases, _lease_rows(found))):
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


def _lease_rows(found: Statistics) -> Iterator[Sequence[object]]:
    yield "LEASE", "COUNT", "EXPIRED", "OLDEST"
    for one in found.leases:
        yield one.kind, one.count, one.expired, _text(one.oldest)


def _text(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds") + "Z"


def _aligned(rows: Iterable[Sequence[object]]) -> Iterator[str]:
    """Set texts to the left and numbers to the right of their column."""
    lines = list(rows)
    widths = [max(len(str(cell)) for cell in column) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = (
            str(cell).rjust(width) if isinstance(cell, int) else str(cell).ljust(width)
            for cell, width in zip(line, widths, strict=True)
        )
        yield "  ".join(cells).rstrip()


# -- indexes --------------------------------------------------------------------------------------


@db.group()
def index() -> None:
    """Add or drop indexes of our own, which make some lists faster.

    Nothing depends on them. A database that Glance uses too keeps its own; these are called
    imgsvc_*, and Glance does not mind them. The service may run meanwhile.
    """


@index.command("list")
@_with_url
def list_extra(url: str) -> None:
    """Say which of the indexes are there, and what each is good for."""
    present, possible = present_indexes(url), possible_indexes(url)
    for one in EXTRA_INDEXES:
        state = "present" if one.name in present else "missing"
        state = state if one in possible else "left out"
        click.echo(f"{state:8}  {one.name:30}  {one.purpose}")


@index.command()
@_with_url
@_DRY_RUN
def add(url: str, dry_run: bool) -> None:
    """Make the indexes that are missing.

    On SQLite nothing can be written while one is made. MariaDB has no indexes on expressions:
    those are left out.
    """
    possible = possible_indexes(url)
    if dry_run:
        present = present_indexes(url)
        _tell_indexes("would add", (one for one in possible if one.name not in present))
    else:
        _tell_indexes("added", add_indexes(url))
    for one in EXTRA_INDEXES:
        if one not in possible:
            click.echo(f"left out {one.name} on {one.table.name}: MariaDB cannot have it")


@index.command()
@_with_url
@_DRY_RUN
def drop(url: str, dry_run: bool) -> None:
    """Remove the indexes that are there."""
    if dry_run:
        present = present_indexes(url)
        _tell_indexes("would drop", (one for one in EXTRA_INDEXES if one.name in present))
    else:
        _tell_indexes("dropped", drop_indexes(url))


def _tell_indexes(verb: str, indexes: Iterable[ExtraIndex]) -> None:
    """Say each of them when it is done."""
    is_any = False
    for one in indexes:
        is_any = True
        click.echo(f"{verb} {one.name} on {one.table.name}")
    if not is_any:
        click.echo("nothing to do")
