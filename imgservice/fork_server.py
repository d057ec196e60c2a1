"""The program of the fork server: forks worker processes until its parent is gone."""

import socket
import sys

from setproctitle import setproctitle

from imgservice.concurrency.late_reactor import make_reactor, postpone_reactor
from imgservice.process.fork_server import CONTROL, ignore_group_signals, serve


def main() -> int:
    """Import the service without making a reactor, then fork workers."""
    ignore_group_signals()
    setproctitle("imgservice-fork-server")
    postpone_reactor()
    from imgservice import worker

    def work() -> int:
        make_reactor()
        return worker.main()

    return serve(socket.socket(fileno=CONTROL), work)


if __name__ == "__main__":
    sys.exit(main())
