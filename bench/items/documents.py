"""The small answer that every contestant is asked for again and again."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from bench.address import ask
from bench.contestants.contestant import Contestant, kept
from bench.errors import Wrong


@contextmanager
def shown(contestants: Sequence[Contestant]) -> Iterator[dict[str, str]]:
    """Yield the path of each contestant's document by its column.

    The first contestant decides how long the documents of the limits are.
    """
    with ExitStack() as stack:
        documents: dict[str, str] = {}
        size = 0
        for contestant in contestants:
            path = stack.enter_context(kept(contestant, contestant.document(size)))
            documents[contestant.column] = path
            size = size or _size_of(contestant, path)
        yield documents


def _size_of(contestant: Contestant, document: str) -> int:
    status, body = ask(contestant.address, contestant.address.request("GET", document))
    if status != 200:
        raise Wrong(f"GET {document} was answered {status} {body[:200]!r}")
    return len(body)
