"""Uploads and downloads over TLS."""

from contextlib import ExitStack

from bench.contestants.certificate import certificate_in
from bench.contestants.limits import sink
from bench.contestants.nginx import nginx
from bench.items.download import download_rounds
from bench.items.streams import Streams
from bench.items.upload import upload_rounds
from bench.run import Item, Run
from bench.table import Table


def measure(run: Run, table: Table) -> None:
    """Transfer one large image in each direction."""
    certificate = certificate_in(run.folder)
    with ExitStack() as stack:
        services = stack.enter_context(run.services(certificate))
        web = stack.enter_context(nginx(run.new_folder(), certificate=certificate))
        hashing = stack.enter_context(sink(run.new_folder(), "keep", "sink", certificate))
        streams = Streams(1, run.options.size(512), run.options.long_rounds)
        download_rounds(run, table, [*services, web], streams)
        upload_rounds(run, table, [*services, web, hashing], streams)


TLS = Item(
    "tls",
    "limit: nginx, which hashes nothing; sink: a Python socket that hashes and writes;"
    " the client's own share of TLS is in every column",
    measure,
)
