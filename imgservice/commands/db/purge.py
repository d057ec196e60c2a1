"""`imgservice db purge` and `purge-images`: removes rows that were deleted long ago."""

import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import ParamSpec, TypedDict, Unpack

import attrs
import click

from imgservice.commands.configuration import tell, with_config
from imgservice.commands.db.connection import DRY_RUN, with_url
from imgservice.db.admin.purge import IMAGES, PARTS, Purge, PurgedTable
from imgservice.db.repositories.rows import utc_now

P = ParamSpec("P")
_SECONDS_A_DAY = 86400
_REASONS = {
    "data": "the data of the image is still to be removed",
    "belongings": "run `imgservice db purge` first, which removes what belongs to them",
}
"""Why rows that are old enough are kept."""


class PurgeOptions(TypedDict):
    age_in_days: int
    max_rows: int
    dry_run: bool
    pause: float


def _purge_options(days: int) -> Callable[[Callable[P, None]], Callable[P, None]]:
    """Add the options; those of `glance-manage` also in its spelling."""

    def add(command: Callable[P, None]) -> Callable[P, None]:
        for option in (
            click.option("--pause", type=click.FloatRange(0), default=0.1, show_default=True,
                         help="Seconds to wait after each transaction, for other work."),
            DRY_RUN,
            click.option("--max-rows", "--max_rows", type=click.IntRange(-1), default=100,
                         show_default=True, help="Remove this many of each table; -1 for all."),
            click.option("--age-in-days", "--age_in_days", type=click.IntRange(0), default=days,
                         show_default=True, help="Remove what was deleted longer ago than this."),
        ):  # fmt: skip
            command = option(command)
        return command

    return add


@click.command()
@with_config
@with_url
@_purge_options(days=30)
def purge(url: str, **options: Unpack[PurgeOptions]) -> None:
    """Remove for good what was deleted long ago, except images themselves.

    Removes members, properties, tags, locations and tasks that are marked as deleted, the oldest
    first, in small transactions, while the service runs. If interrupted, the next run continues.
    """
    _purge(url, PARTS, options)


@click.command("purge-images")
@with_config
@with_url
@_purge_options(days=180)
def purge_images(url: str, **options: Unpack[PurgeOptions]) -> None:
    """Remove for good the rows of images that were deleted long ago.

    After that any user can create an image with such an id: choose an age after which nobody uses
    the ids any more. Run `imgservice db purge` first, to remove what belongs to the images.
    """
    _purge(url, IMAGES, options)


def _purge(url: str, parts: Sequence[PurgedTable], options: PurgeOptions) -> None:
    limit = None if options["max_rows"] == -1 else options["max_rows"]
    purge = Purge(url, parts, _days_ago(options["age_in_days"]), limit)
    waiting = purge.waiting()
    if options["dry_run"]:
        _print_rows(waiting, "would be removed")
    else:
        _remove(purge, options["pause"], waiting)
    for table, reason, count in purge.staying():
        click.echo(f"{table}: {count} kept: {_REASONS[reason]}")


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
    _print_rows(gone, "removed")
    if stop.signal is not None:
        tell("interrupted; the next run continues")
        raise SystemExit(128 + stop.signal)


@attrs.define
class _Stop:
    """Whether the command was asked to stop, and by which signal."""

    signal: int | None = None

    def wait(self, seconds: float) -> bool:
        """Sleep until a signal comes; polls, since a signal handler must not touch a lock."""
        end = time.monotonic() + seconds
        while self.signal is None and (left := end - time.monotonic()) > 0:
            time.sleep(min(left, 0.1))
        return self.signal is not None


@contextmanager
def _stop_signals() -> Iterator[_Stop]:
    """Let the first signal wait for the end of a transaction; a second one kills as usual."""
    stop = _Stop()

    def ask(number: int, frame: object) -> None:
        stop.signal = number
        restore()

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        restore()


def _print_rows(counts: Mapping[str, int], what: str) -> None:
    for table, count in counts.items():
        click.echo(f"{table}: {count} {what}")


@contextmanager
def _progress(length: int) -> Iterator[Callable[[int], None]]:
    """Return a function that advances the progress bar, which is only shown on a terminal."""
    if not sys.stderr.isatty():
        yield lambda steps: None
        return
    with click.progressbar(length=length, label="Removing", file=sys.stderr) as bar:
        yield bar.update
