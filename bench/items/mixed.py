"""Uploads and downloads at full speed, and whether `show` stays quick."""

import time
from contextlib import ExitStack
from threading import Event

import attrs

from bench.background import meanwhile
from bench.contestants.contestant import Contestant, kept
from bench.contestants.nginx import nginx
from bench.items.documents import shown
from bench.items.download import stored
from bench.probe import probe
from bench.run import Item, Run
from bench.table import Table
from bench.transfer import download, upload
from bench.units import MIB
from bench.usage import watched

STREAMS = 4


def measure(run: Run, table: Table) -> None:
    """Keep four uploads and four downloads going."""
    size = run.options.size(256)
    with ExitStack() as stack:
        contestants: list[Contestant] = [
            *stack.enter_context(run.services()),
            stack.enter_context(nginx(run.new_folder())),
        ]
        documents = stack.enter_context(shown(contestants))
        files = stack.enter_context(stored(run, contestants, size))

        def one(contestant: Contestant) -> None:
            column = contestant.column
            load = _Load(run, contestant, files[column], size)
            _one(run, table, contestant, load, documents[column])

        run.rounds(table, contestants, one, run.options.long_rounds)


@attrs.define
class _Load:
    """Transfers that are repeated; whole ones are counted."""

    run: Run
    contestant: Contestant
    file: str
    size: int
    uploaded: list[int] = attrs.Factory(list)
    downloaded: list[int] = attrs.Factory(list)

    def upload(self, ending: Event) -> None:
        size = self.size // 4
        while not ending.is_set():
            with kept(self.contestant, self.contestant.place()) as path:
                upload(self.contestant.address, path, self.run.payload, size)
            self.uploaded.append(size)

    def download(self, ending: Event) -> None:
        while not ending.is_set():
            download(self.contestant.address, self.file, self.size)
            self.downloaded.append(self.size)


def _one(run: Run, table: Table, contestant: Contestant, load: _Load, document: str) -> None:
    begin = time.monotonic()
    works = [load.upload] * STREAMS + [load.download] * STREAMS
    with watched(contestant.pid) as usage:
        with meanwhile(works):
            seen = probe(contestant.address, document, run.options.watch_seconds)
        seconds = time.monotonic() - begin
    column, work = contestant.column, f"{STREAMS} up, {STREAMS} down"
    seen.fill(table, column, work)
    table.add(column, work, "uploads", "MiB/s", sum(load.uploaded) / MIB / seconds)
    table.add(column, work, "downloads", "MiB/s", sum(load.downloaded) / MIB / seconds)
    table.add(column, work, "memory growth", "MiB", usage.growth_mib)
    if seen.complaint:
        run.failed(table, contestant, seen.complaint)


MIXED = Item(
    "mixed",
    "limit: nginx with sendfile and WebDAV, which hashes nothing, and a static file for show",
    measure,
)
