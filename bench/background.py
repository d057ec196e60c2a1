"""Load that runs until a measurement in the foreground has ended."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from threading import Event

from bench.errors import Wrong

Work = Callable[[Event], None]


@contextmanager
def meanwhile(works: Sequence[Work]) -> Iterator[None]:
    """Run each work in a thread until its event is set, which happens at the end of the block.

    The first error of a work is raised there, unless the block itself failed.
    """
    ending = Event()
    errors: list[Exception] = []

    def run(work: Work) -> None:
        try:
            work(ending)
        except (OSError, Wrong) as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(work,), daemon=True) for work in works]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ending.set()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
