"""How fast bytes go out."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial

from bench.contestants.contestant import Contestant, kept
from bench.contestants.nginx import nginx
from bench.errors import Wrong
from bench.items.streams import Streams
from bench.run import Item, Run
from bench.table import Table
from bench.transfer import download, together, upload
from bench.usage import watched


def measure(run: Run, table: Table) -> None:
    """Download one large image, then another one eight times at once."""
    with ExitStack() as stack:
        contestants: list[Contestant] = [
            *stack.enter_context(run.services()),
            stack.enter_context(nginx(run.new_folder())),
        ]
        options = run.options
        download_rounds(run, table, contestants, Streams(1, options.size(1024), options.rounds))
        download_rounds(run, table, contestants, Streams(8, options.size(512), options.long_rounds))


def download_rounds(
    run: Run, table: Table, contestants: Sequence[Contestant], streams: Streams
) -> None:
    """Measure readers of the same bytes at the same time, after reading them once in full."""
    with stored(run, contestants, streams.size) as files:

        def one(contestant: Contestant) -> None:
            path = files[contestant.column]
            job = partial(download, contestant.address, path, streams.size)
            with watched(contestant.pid) as usage:
                seconds = together([job] * streams.count)
            streams.fill(table, contestant, "download", seconds, usage)

        check_bytes(run, table, contestants, files, streams.size)
        run.rounds(table, contestants, one, streams.rounds)


@contextmanager
def stored(run: Run, contestants: Sequence[Contestant], size: int) -> Iterator[dict[str, str]]:
    """Give every contestant the same bytes; yield the path of each by its column."""
    with ExitStack() as stack:
        files = {}
        for contestant in contestants:
            path = stack.enter_context(kept(contestant, contestant.place()))
            upload(contestant.address, path, run.payload, size)
            files[contestant.column] = path
        yield files


def check_bytes(
    run: Run, table: Table, contestants: Sequence[Contestant], files: dict[str, str], size: int
) -> None:
    """Read every file in full, once: a contestant that sends other bytes is a problem."""
    expected = run.payload.md5(size)
    for contestant in contestants:
        try:
            found = _md5(contestant, files[contestant.column], size)
        except (Wrong, OSError) as error:
            found = str(error)
        if found != expected:
            run.failed(table, contestant, f"md5 of a download: {found}, not {expected}")


def _md5(contestant: Contestant, path: str, size: int) -> str:
    digest = hashlib.md5()
    download(contestant.address, path, size, digest)
    return digest.hexdigest()


DOWNLOAD = Item("download", "limit: nginx with sendfile", measure)
