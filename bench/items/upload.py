"""How fast bytes come in."""

from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial

from bench.contestants.contestant import Contestant, kept
from bench.contestants.limits import sink
from bench.items.streams import Streams
from bench.run import Item, Run
from bench.table import Table
from bench.transfer import together, upload
from bench.usage import watched


def measure(run: Run, table: Table) -> None:
    """Upload one large image, then four at once."""
    with ExitStack() as stack:
        contestants: list[Contestant] = [
            *stack.enter_context(run.services()),
            stack.enter_context(sink(run.new_folder(), "keep", "limit")),
            stack.enter_context(sink(run.new_folder(), "drop", "socket")),
        ]
        options = run.options
        upload_rounds(run, table, contestants, Streams(1, options.size(1024), options.rounds))
        upload_rounds(run, table, contestants, Streams(4, options.size(512), options.long_rounds))


def upload_rounds(
    run: Run, table: Table, contestants: Sequence[Contestant], streams: Streams
) -> None:
    """Measure uploads at the same time; each is removed before the next round."""

    def one(contestant: Contestant) -> None:
        with ExitStack() as stack:
            jobs = []
            for _ in range(streams.count):
                path = stack.enter_context(kept(contestant, contestant.place()))
                jobs.append(partial(upload, contestant.address, path, run.payload, streams.size))
            with watched(contestant.pid) as usage:
                seconds = together(jobs)
        streams.fill(table, contestant, "upload", seconds, usage)

    run.rounds(table, contestants, one, streams.rounds)


UPLOAD = Item(
    "upload",
    "limit: a socket that hashes md5 and sha512 in two threads and writes the file;"
    " socket: one that drops the bytes",
    measure,
)
