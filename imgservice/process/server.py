"""The service in one process: listens, keeps house, and stops without cutting anybody off."""

import socket
import time
from collections.abc import Sequence
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from imgservice.process.descriptors import raise_descriptor_limit
from imgservice.process.sockets import ListenError
from imgservice.service.data import LEASE_TIME

RECOVER_INTERVAL = 30.0
POLL = 0.05

_log = Logger()


class Server(Service):
    """Binds in `privilegedStartService`, before twistd gives up its rights."""

    def __init__(
        self,
        reactor: Any,
        built: Any,
        endpoints: Sequence[tuple[str, Any]],
        keepidle: float,
        grace: float,
    ) -> None:
        self._reactor = reactor
        self._built = built
        self._endpoints = endpoints
        self._keepidle = keepidle
        self._grace = grace
        self._ports: list[Any] = []
        self._chores = [
            self._every(RECOVER_INTERVAL, self._recover),
            self._every(LEASE_TIME / 4, built.data.renew),
        ]

    def _every(self, interval: float, chore: Any) -> tuple[LoopingCall, float]:
        async def careful() -> None:
            try:
                await chore()
            except Exception:
                _log.failure("A chore failed; it will be tried again")

        call = LoopingCall(lambda: Deferred.fromCoroutine(careful()))
        call.clock = self._reactor
        return call, interval

    def privilegedStartService(self) -> None:
        raise_descriptor_limit()
        for description, endpoint in self._endpoints:
            listening: Deferred[Any] = endpoint.listen(self._built.site)
            listening.addCallback(self._opened)
            failures: list[Failure] = []
            listening.addErrback(failures.append)
            if failures:
                raise ListenError(f"cannot listen on {description}: {_why(failures[0])}")

    def _opened(self, port: Any) -> None:
        """Keep the port; what is set on its socket, the kernel sets on every connection."""
        self._ports.append(port)
        self._built.site.admission.watch(port)
        listener = getattr(port, "socket", None)
        if listener is not None and listener.family != socket.AF_UNIX and self._keepidle:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, int(self._keepidle))

    def startService(self) -> None:
        super().startService()
        for call, interval in self._chores:
            call.start(interval)

    async def _recover(self) -> None:
        settled = await self._built.data.recover()
        if settled:
            _log.info("Cleaned up {settled} operations of a process that died", settled=settled)

    def stopService(self) -> Deferred[None]:
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        """Accept no more, let requests end, then let go of everything."""
        for call, _ in self._chores:
            call.stop()
        for port in self._ports:
            await _settled(port.stopListening())
        self._built.site.drain()
        await self._wait_for_connections()
        self._built.site.abort()
        await self._built.tasks.ended()
        await _settled(self._built.database.close())
        self._built.threads.stop()
        await _settled(self._built.authentication.stop())
        await _settled(self._built.limits.stop())

    async def _wait_for_connections(self) -> None:
        deadline = time.monotonic() + self._grace
        while self._built.site.channels and time.monotonic() < deadline:
            await _sleep(self._reactor, POLL)


def _why(failure: Failure) -> str:
    error = failure.value
    if isinstance(error, CannotListenError):
        return getattr(error.socketError, "strerror", None) or str(error.socketError)
    return str(error)


async def _settled(result: Any) -> None:
    if hasattr(result, "__await__"):
        await result


def _sleep(reactor: Any, seconds: float) -> Deferred[None]:
    slept: Deferred[None] = Deferred()
    reactor.callLater(seconds, slept.callback, None)
    return slept
