"""A worker process, as its parent sees it."""

import os
import pickle
import signal
import time
from collections.abc import Callable, Sequence

import attrs
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from imgservice.concurrency.reactor import Reactor
from imgservice.process.addresses import Address
from imgservice.process.control import Control, connection, hidden_file
from imgservice.process.fork_server import WORKER
from imgservice.process.forking import ForkServer
from imgservice.process.messages import (
    Beat,
    Failed,
    Listen,
    Message,
    Ready,
    Retire,
    Stop,
    ToWorker,
    UseTls,
)
from imgservice.process.phases import WorkerState
from imgservice.process.setup import Setup
from imgservice.process.sockets import ListeningSocket
from imgservice.process.tls.material import TlsMaterial
from imgservice.process.worker_pool import UnderWay, WorkerPoolError, WorkerReport, worker_report

CONTROL, BOOTSTRAP, STACKS, FIRST_SOCKET = 3, 4, 5, 6
"""Descriptors of a worker."""
DUMP_TIME = 1.0
"""Seconds that a hanging worker has to write down its stacks."""
_FROM_OTHERS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)

_log = Logger()


@attrs.frozen
class Bootstrap:
    """What a worker is given to begin with, in an anonymous file that it closes at once."""

    setup: Setup
    log_file: str | None
    """None: standard output."""
    addresses: Sequence[Address]
    """Where it listens; the sockets are the descriptors that follow."""


class Worker:
    """A worker, from its start to its end. Messages that are not about itself go to `heard`."""

    def __init__(
        self,
        reactor: Reactor,
        slot: int,
        setup: Setup,
        heard: Callable[["Worker", Message, Sequence[int]], None],
    ) -> None:
        self._reactor = reactor
        self.slot = slot
        self.setup = setup
        self.tls = setup.tls
        self._heard = heard
        self.state = WorkerState.STARTING
        self.since, self.began = time.time(), time.monotonic()
        self.connections = 0
        self.requests = 0
        self.under_way: UnderWay = (0, 0)
        """As of its last sign of life."""
        self.last_sign = self.began
        """When it last showed that its reactor turns."""
        self.ready: Deferred[None] = Deferred()
        """Fires when it serves; fails with `WorkerPoolError` when it never will."""
        self.ended: Deferred[None] = Deferred()
        self.was_killed = False
        """Whether a signal from outside has ended it, and not a fault of its own."""
        self.why = ""
        """Why it could not serve, or ended."""

    def start(
        self, forks: ForkServer, log_file: str | None, sockets: Sequence[ListeningSocket]
    ) -> None:
        """Have it forked, with these sockets and what it needs to begin."""
        bootstrap = Bootstrap(self.setup, log_file, [address for address, _ in sockets])
        ours, theirs = connection()
        secret = hidden_file(pickle.dumps(bootstrap))
        self._stacks = hidden_file(b"")
        descriptors = {
            CONTROL: theirs.fileno(), BOOTSTRAP: secret, STACKS: self._stacks,
            **{FIRST_SOCKET + n: bound.fileno() for n, (_, bound) in enumerate(sockets)},
        }  # fmt: skip
        name = [WORKER, f"slot={self.slot}", f"generation={self.setup.generation}"]
        try:
            self._child = forks.fork(name, descriptors, self._child_ended)
        finally:
            theirs.close()
            os.close(secret)
        self._control = Control(self._reactor, ours, self._received, lambda: None)

    @property
    def pid(self) -> int:
        """Its process id; 0 until it is forked."""
        return self._child.pid

    @property
    def is_ready(self) -> bool:
        return self.state is WorkerState.READY

    @property
    def has_ended(self) -> bool:
        return self.state is WorkerState.ENDED

    def report(self) -> WorkerReport:
        """Return what there is to say of it."""
        return worker_report(self, self.slot, self.pid, self.state, self.setup.generation)

    # -- its messages -----------------------------------------------------------------------------

    def _received(self, message: Message, descriptors: Sequence[int]) -> None:
        self.last_sign = time.monotonic()
        match message:
            case Beat():
                self.connections, self.requests = message.connections, message.requests
                self.under_way = message.under_way
                self._heard(self, message, descriptors)
            case Ready():
                self.state = WorkerState.READY
                self._settle(None)
            case Failed():
                self.why = message.why
            case _:
                self._heard(self, message, descriptors)

    def _settle(self, result: Failure | None) -> None:
        if not self.ready.called:
            self.ready.callback(result)

    def _child_ended(self, why: str, by: int | None) -> None:
        # Its last messages may not be read yet.
        self._control.doRead()
        self._control.close()
        os.close(self._stacks)
        self.state = WorkerState.ENDED
        self.was_killed = by in _FROM_OTHERS
        self.why = self.why or why
        self._settle(Failure(WorkerPoolError(self.why)))
        self.ended.callback(None)

    # -- our messages -----------------------------------------------------------------------------

    def send(self, message: ToWorker, descriptors: Sequence[int] = ()) -> None:
        """Send it a message; the descriptors are given away."""
        if self.has_ended:
            for one in descriptors:
                os.close(one)
        else:
            self._control.send(message, descriptors)

    def listen(self, slot: int, sockets: Sequence[ListeningSocket]) -> None:
        """Let it accept on another slot's sockets, too."""
        self.send(
            Listen(slot, [(one.description, one.backlog) for one, _ in sockets]),
            [os.dup(bound.fileno()) for _, bound in sockets],
        )

    def set_tls(self, material: TlsMaterial) -> None:
        self.tls = material
        self.send(UseTls(), [hidden_file(pickle.dumps(material))])

    def retire(self, removed: Sequence[str] | None, grace: float, may_hand_over: bool) -> None:
        """Let it end without failing a request.

        Nobody else has the sockets of the `removed` addresses (None: of any address).
        """
        self.state = WorkerState.RETIRING
        self.send(Retire(removed, grace, may_hand_over))

    def stop(self, grace: float) -> None:
        if not self.has_ended:
            self.state = WorkerState.STOPPING
            self.send(Stop(grace))

    def kill(self) -> None:
        if not self.has_ended:
            self._child.signal(signal.SIGKILL)

    def kill_hanging(self, silence: float) -> None:
        """Log where it hangs, and kill it."""
        self.last_sign = time.monotonic() + DUMP_TIME  # so that it is not found again meanwhile
        self.why = f"its reactor did not turn for {silence:.0f} seconds"
        self._child.signal(signal.SIGUSR2)
        self._reactor.callLater(DUMP_TIME, self._log_and_kill)

    def _log_and_kill(self) -> None:
        if self.has_ended:
            return
        size = os.fstat(self._stacks).st_size
        stacks = os.pread(self._stacks, size, 0).decode("utf-8", "replace")
        _log.error(
            "Worker {pid} hangs and is killed: {why}. Its stacks:\n{stacks}",
            pid=self.pid,
            why=self.why,
            stacks=stacks or "(none: it did not react to SIGUSR2)",
        )
        self.kill()
