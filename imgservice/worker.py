"""A worker process: serves on sockets that its parent has opened, with what the parent has read."""

import faulthandler
import pickle
import signal
import socket
import sys
from collections.abc import Coroutine, Sequence
from typing import Any, cast

from setproctitle import setproctitle
from twisted.internet.defer import Deferred
from twisted.logger import ILogObserver, Logger, globalLogBeginner

from imgservice.concurrency.clock import make_monotonic
from imgservice.concurrency.reactor import Reactor, installed_reactor, looping_call, sleep
from imgservice.config.errors import ConfigError
from imgservice.http.channel import StreamingChannel
from imgservice.process.addresses import Address, read_address
from imgservice.process.control import Control, read_hidden_file
from imgservice.process.messages import (
    Beat,
    Close,
    Failed,
    Give,
    Leaving,
    Listen,
    Message,
    Ready,
    Retire,
    SetHealth,
    Stop,
    Take,
    Unlisten,
    UseTls,
)
from imgservice.process.processors import worker_count
from imgservice.process.serving import POLL, Serving
from imgservice.process.tls.contexts import ServerContexts
from imgservice.process.worker_process import BOOTSTRAP, CONTROL, FIRST_SOCKET, STACKS, Bootstrap
from imgservice.telemetry.logs import make_logs
from imgservice.troubles import Troubles
from imgservice.wiring.build import build
from imgservice.wiring.listeners import make_listeners

BEAT = 1.0
"""Seconds between two signs of life."""
MOST_TOLD = 20
"""Troubles that are sent with one: the size of a message is limited."""

_log = Logger()


def main() -> int:
    """Serve until told to end; errors go to the parent, which logs them."""
    setproctitle(f"imgservice-worker {' '.join(sys.argv[1:])}")
    # The terminal signals all processes; the parent acts.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    faulthandler.register(signal.SIGUSR2, file=STACKS, all_threads=True)
    # It can only come from our parent.
    bootstrap: Bootstrap = pickle.loads(read_hidden_file(BOOTSTRAP))  # noqa: S301
    reactor = installed_reactor()
    make_monotonic(reactor)
    return _Worker(reactor, bootstrap).run()


class _Worker:
    def __init__(self, reactor: Reactor, bootstrap: Bootstrap) -> None:
        self._reactor = reactor
        self._setup = bootstrap.setup
        self._sockets = [
            (address, socket.socket(fileno=FIRST_SOCKET + index))
            for index, address in enumerate(bootstrap.addresses)
        ]
        self._output, self._observer = make_logs(self._setup.config.logging, bootstrap.log_file)
        globalLogBeginner.beginLoggingTo(
            [cast(ILogObserver, self._observer)], redirectStandardIO=False
        )
        end = socket.socket(fileno=CONTROL)
        self._control = Control(reactor, end, self._received, self._orphaned)
        # Our parent logs them, once for all of us.
        self._troubles = Troubles(reactor, lambda present: None)
        self._serving: Serving | None = None
        self._ending: Deferred[None] | None = None
        self._is_leaving = False
        self._grace: float = self._setup.config.server.shutdown_grace
        self._beats = looping_call(reactor, self._beat)

    def run(self) -> int:
        self._reactor.callWhenRunning(self._take_signals)
        self._reactor.callWhenRunning(lambda: Deferred.fromCoroutine(self._start()))
        self._reactor.addSystemEventTrigger("before", "shutdown", self._before_shutdown)
        self._output.start(self._reactor)
        self._reactor.run()
        self._output.stop()
        return 0 if self._serving is not None else 1

    async def _start(self) -> None:
        config = self._setup.config
        try:
            contexts = ServerContexts(self._setup.tls) if self._setup.tls else None
            listeners = make_listeners(config, self._output)
            built = build(config, self._reactor, listeners, self._troubles)
            self._serving = Serving(
                self._reactor,
                built,
                contexts,
                config.server.tcp_keepidle,
                is_one_of_several=worker_count(config) > 1,
            )
            await self._serving.start("own", self._sockets)
        except Exception as error:
            if not isinstance(error, ConfigError | OSError):
                _log.failure("This worker failed to start")
            self._control.send(Failed(str(error) or type(error).__name__))
            self._serving = None
            self._leave()
            return
        for _, bound in self._sockets:
            bound.close()
        self._control.send(Ready())
        self._beats.start(BEAT)

    def _beat(self) -> None:
        assert self._serving is not None  # noqa: S101
        self._control.send(
            Beat(
                self._serving.connections,
                self._serving.requests,
                self._serving.under_way,
                self._troubles.present[:MOST_TOLD],
            )
        )

    # -- messages of the parent -------------------------------------------------------------------

    def _received(self, message: Message, descriptors: Sequence[int]) -> None:
        serving = self._serving
        if serving is None:
            return
        match message:
            case Listen():
                self._listen(message, descriptors, serving)
            case Unlisten():
                serving.close(message.slot, False)
            case Take():
                serving.take_connection(descriptors[0])
            case UseTls():
                material = pickle.loads(read_hidden_file(descriptors[0]))  # noqa: S301  as above
                if serving.contexts is not None:
                    serving.contexts.replace(material)
            case SetHealth():
                serving.set_health(message.is_well)
            case Close():
                serving.stop_accepting()
            case Retire():
                self._retire(message, serving)
            case Stop():
                self._stop(message.grace)

    def _listen(self, message: Listen, descriptors: Sequence[int], serving: Serving) -> None:
        sockets = [
            (read_address(description, backlog), socket.socket(fileno=descriptor))
            for (description, backlog), descriptor in zip(
                message.endpoints, descriptors, strict=True
            )
        ]
        serving.listen(message.slot, sockets)
        for _, bound in sockets:
            bound.close()

    def _retire(self, message: Retire, serving: Serving) -> None:
        def is_removed(address: Address) -> bool:
            return message.removed is None or address.description in message.removed

        def hand_over(channel: StreamingChannel) -> bool:
            return message.may_hand_over and self._give(channel)

        if self._ending is None:
            retiring = serving.retire(message.grace, is_removed, hand_over)
            self._ending = Deferred.fromCoroutine(self._until_sent(retiring))
            self._ending.addErrback(
                lambda failure: _log.failure("Unexpected error while this worker retires", failure)
            )
            self._ending.addCallback(lambda _: self._leave())

    async def _until_sent(self, retiring: Coroutine[Any, Any, None]) -> None:
        """Connections that we hand over are lost if we end before they are sent."""
        await retiring
        while self._control.is_sending:
            await sleep(self._reactor, POLL)

    def _give(self, channel: StreamingChannel) -> bool:
        """Hand a connection over by way of the parent."""
        taken = channel.detach()
        if taken is None:
            return False
        self._control.send(Give(), [taken.detach()])
        return True

    def _stop(self, grace: float) -> None:
        self._grace = grace
        if self._ending is not None and self._serving is not None:
            self._serving.hasten(grace)
        else:
            self._leave()

    def _orphaned(self) -> None:
        """Stop: the parent has died, and no other process can replace us."""
        self._stop(self._grace)

    # -- the end ----------------------------------------------------------------------------------

    def _take_signals(self) -> None:
        """Take SIGTERM in place of the reactor, which cannot be told to end twice."""
        signal.signal(signal.SIGTERM, lambda *_: self._reactor.callFromThread(self._end_by_signal))

    def _end_by_signal(self) -> None:
        if not self._is_leaving:
            _log.info("Received SIGTERM, shutting down.")
        self._leave()

    def _leave(self) -> None:
        if self._reactor.running and not self._is_leaving:
            self._is_leaving = True
            self._reactor.stop()

    def _before_shutdown(self) -> Deferred[None] | None:
        """Finish requests, and tell the parent, since SIGTERM may come from elsewhere."""
        if self._serving is None:
            return None
        self._control.send(Leaving())
        if self._ending is None:
            self._ending = Deferred.fromCoroutine(self._serving.stop(self._grace))
        else:
            self._serving.hasten(self._grace)
        return self._ending


if __name__ == "__main__":
    sys.exit(main())
