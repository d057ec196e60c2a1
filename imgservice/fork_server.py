"""The program of the fork server: forks workers and trials until its parent is gone."""

import gc
import socket
import sys
from collections.abc import Callable, Mapping
from importlib import import_module

from setproctitle import setproctitle

from imgservice.concurrency.late_reactor import make_reactor, postpone_reactor
from imgservice.process.descriptors import raise_descriptor_limit
from imgservice.process.fork_server import CONTROL, TRIAL, WORKER, ignore_group_signals, serve

USED_SOON = ("twisted.internet.default", "imgservice.domain.formats")
"""What every worker imports, at once or with its first upload, and no trial does."""


def main() -> int:
    """Import the service without making a reactor, then fork."""
    ignore_group_signals()
    gc.disable()  # what is imported stays, and a collection leaves holes that each child would fill
    setproctitle("imgservice-fork-server")
    raise_descriptor_limit()
    postpone_reactor()
    programs = _programs()
    return serve(socket.socket(fileno=CONTROL), lambda: programs[sys.argv[0]]())


def _programs() -> Mapping[str, Callable[[], int]]:
    from imgservice import worker
    from imgservice.wiring import trial_process, warming

    for name in USED_SOON:
        import_module(name)
    warming.warm_up()

    def work() -> int:
        make_reactor()
        return worker.main()

    return {WORKER: work, TRIAL: trial_process.main}


if __name__ == "__main__":
    sys.exit(main())
