"""A fork server that is there before its service asks for one.

The real one is a new interpreter, which imports the service for a second. This one is forked from
a service that has just been forked itself: it has imported everything, and has no reactor yet. From
the command line on it runs the same code. One that takes its place later is a real one.
"""

import os
import socket
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import orjson
from twisted.internet.process import Process

from imgservice import fork_server
from imgservice.concurrency.late_reactor import NAME
from imgservice.concurrency.reactor import installed_reactor
from imgservice.process.control import hidden_file, read_hidden_file
from imgservice.process.fork_server import CONTROL, ignore_group_signals, leave, prepare_child
from imgservice.process.messages import LARGEST, MOST_DESCRIPTORS, Fork, decode, encode
from imgservice.process.umask import present_umask
from imgservice.wiring.with_workers import FORK_SERVER

ENVIRONMENT = CONTROL + 1
"""The descriptor from which it reads its environment."""


class EarlyForkServer:
    def __init__(self) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.pid = os.fork()
        if self.pid == 0:
            self._control.close()
            _wait_and_run(theirs)
        theirs.close()
        self.is_waiting = True

    def replace_spawn(self) -> None:
        """Let the reactor take this process when it is to start a fork server."""
        reactor = installed_reactor()
        spawn_real = reactor.spawnProcess

        def spawn(protocol: Any, executable: str, args: Sequence[str], **more: Any) -> Any:
            if args != FORK_SERVER or not self.is_waiting:
                return spawn_real(protocol, executable, args, **more)
            return _Early(
                self, reactor, executable, args, more["env"], None, protocol,
                childFDs=more["childFDs"],
            )  # fmt: skip

        setattr(reactor, "spawnProcess", spawn)  # noqa: B010  its own is a method

    def start(
        self, arguments: Sequence[str], environment: Mapping[str, str], places: Mapping[int, int]
    ) -> None:
        """Let it run with these descriptors, by their numbers there."""
        self.is_waiting = False
        file = hidden_file(orjson.dumps(dict(environment)))
        fork = Fork(0, [*places, ENVIRONMENT], arguments, present_umask())
        with self._control:
            socket.send_fds(self._control, [encode(fork)], [*places.values(), file])
        os.close(file)


class _Early(Process):
    """For Twisted it is a process that has just been started."""

    def __init__(self, early: EarlyForkServer, *arguments: Any, **more: Any) -> None:
        self._early = early
        super().__init__(*arguments, **more)

    def _fork(self, *arguments: Any, **more: Any) -> None:
        *_, words, environment = arguments
        self._early.start(words, environment, more["fdmap"])
        self.pid = self._early.pid


def _wait_and_run(control: socket.socket) -> NoReturn:
    ignore_group_signals()
    data, descriptors, _, _ = socket.recv_fds(control, LARGEST, MOST_DESCRIPTORS)
    control.close()
    if not data:  # the service has ended, or has no workers after all
        leave(0)
    message = decode(data)
    assert isinstance(message, Fork)
    prepare_child(message, descriptors)
    os.environ.clear()
    os.environ.update(orjson.loads(read_hidden_file(ENVIRONMENT)))
    del sys.modules[NAME]  # the stand-in of the service: the fork server makes its own
    leave(fork_server.main())
