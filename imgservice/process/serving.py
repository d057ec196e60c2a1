"""One site on its sockets: listens, keeps house, and ends without cutting anybody off."""

import math
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.protocols.haproxy import proxyEndpoint

from imgservice.concurrency.reactor import Reactor, looping_call, sleep
from imgservice.domain.errors import Unavailable
from imgservice.process.acceptor import SocketEndpoint
from imgservice.process.addresses import Address, keep_alive
from imgservice.process.sockets import Place
from imgservice.process.tls_transport import TlsEndpoint
from imgservice.service.data import LEASE_TIME

RECOVER_INTERVAL = 30.0
POLL = 0.05
PORTION = 100
"""Connections that are handed over at once: a request that comes meanwhile waits for them all."""
IDLE_TLS = 60.0
"""Seconds that a connection which cannot be handed over may be idle while we retire."""

UnderWay = tuple[int, int]
"""Requests that are not finished, and how many of them move data in either direction."""

_log = Logger()


@attrs.frozen(eq=False)
class _Listening:
    address: Address
    port: Any


class Serving:
    """Serves what was built, with one configuration, from `start` to `stop` or `retire`."""

    def __init__(
        self,
        reactor: Reactor,
        built: Any,
        contexts: Any,
        keepidle: float,
        has_fellows: bool = False,
    ) -> None:
        self._reactor = reactor
        self._built = built
        self.contexts = contexts
        """The TLS with which we serve, or None."""
        self._keepidle = keepidle
        self._has_fellows = has_fellows
        """Whether other processes accept at the same places."""
        self._listening: dict[object, list[_Listening]] = {}
        self._deadline = math.inf
        self.since = time.time()
        self._recoveries = self._every("Recovery of leases", self._recover)
        self._renewals = self._every("Renewal of leases", built.data.renew)

    def _every(self, name: str, chore: Any) -> LoopingCall:
        troubles = self._built.troubles

        async def careful() -> None:
            try:
                await chore()
            except Unavailable:
                return  # what is not available reports itself
            except Exception as error:
                if troubles.report(name, name, type(error).__name__, is_essential=False):
                    _log.failure("{name} failed; it will be tried again", name=name)
            else:
                troubles.clear(name)

        return looping_call(self._reactor, lambda: Deferred.fromCoroutine(careful()))

    async def _recover(self) -> None:
        settled = await self._built.data.recover()
        if settled:
            _log.info("Cleaned up {settled} operations of a process that died", settled=settled)

    # -- listening --------------------------------------------------------------------------------

    def start(self) -> None:
        self._built.probes.start()
        self._recoveries.start(RECOVER_INTERVAL)
        self._renewals.start(LEASE_TIME / 4)

    def listen(self, key: object, places: Sequence[Place]) -> None:
        """Accept connections at these places, until `close(key)`; the sockets stay the caller's."""
        self._built.site.draining = False
        for address, bound in places:
            keep_alive(bound, self._keepidle)
            is_shared = self._has_fellows and not address.is_divisible
            endpoint: Any = SocketEndpoint(self._reactor, bound, address.backlog, is_shared)
            if address.is_proxied:
                endpoint = proxyEndpoint(endpoint)
            if self.contexts is not None:
                endpoint = TlsEndpoint(self._reactor, endpoint, self.contexts)
            opened = endpoint.listen(self._built.site).result
            self._built.site.connection_limits.watch(opened)
            self._listening.setdefault(key, []).append(_Listening(address, opened))

    def close(self, key: object, is_last: bool) -> None:
        """Accept no more; if nobody else holds the sockets, then who waits there is let in."""
        for one in self._listening.pop(key, ()):
            self._close(one, is_last)

    def leave(self) -> None:
        """Accept no more, where nobody else does either, until `listen`; finish requests."""
        self._close_all(lambda _: True)
        self._built.site.drain()

    def _close(self, one: _Listening, is_last: bool) -> None:
        if is_last:
            one.port.accept_waiting()
        one.port.stopListening()

    def _close_all(self, last: Callable[[Address], bool]) -> None:
        for listening in self._listening.values():
            for one in listening:
                self._close(one, last(one.address))
        self._listening.clear()

    def take(self, channel: Any) -> bool:
        """Go on with a connection of another site in this process."""
        channel.move(self._built.site)
        return True

    def take_connection(self, descriptor: int) -> None:
        """Go on with a connection that another process has handed over; the descriptor is ours."""
        with socket.socket(fileno=descriptor) as connection, suppress(OSError):
            connection.setblocking(False)
            taken = self._reactor.adoptStreamConnection(
                connection.fileno(), connection.family, self._built.site
            )
            taken.protocol.go_on()

    def set_health(self, is_well: bool) -> None:
        """Tell load balancers whether to send requests here."""
        self._built.health.is_leaving = not is_well

    @property
    def connections(self) -> int:
        return len(self._built.site.channels)

    @property
    def requests(self) -> int:
        """How many requests were answered."""
        served: int = self._built.site.served
        return served

    @property
    def under_way(self) -> UnderWay:
        requests = [one.requests[0] for one in self._built.site.channels if one.requests]
        return len(requests), sum(one.is_transfer for one in requests)

    # -- the end ----------------------------------------------------------------------------------

    async def stop(self, grace: float) -> None:
        """Accept no more, let requests end for so long, then let go of everything."""
        self._end_recoveries()
        self._close_all(lambda _: True)
        self.hasten(grace)
        await self._until_alone(lambda: None)
        await self._end()

    async def retire(
        self,
        grace: float,
        last: Callable[[Address], bool],
        hand_over: Callable[[Any], bool],
    ) -> None:
        """Leave the place to a successor that serves already; nobody may notice.

        `last` tells whether the successor does not listen at an address. `hand_over` gives it an
        idle connection, or tells that it cannot have it. `grace` is how long requests may go on.
        """
        self._end_recoveries()
        self._close_all(last)
        self._built.site.retire()
        self._deadline = min(self._deadline, time.monotonic() + grace)
        await self._until_alone(lambda: self._part_with_idle(hand_over))
        await self._end()

    def hasten(self, grace: float) -> None:
        """Close idle connections now, others with their present answer, all of them after so long.

        This holds for an end that has begun, too.
        """
        self._deadline = min(self._deadline, time.monotonic() + grace)
        self._built.site.drain()

    def _part_with_idle(self, hand_over: Callable[[Any], bool]) -> None:
        portion = self._portion()
        for channel in list(self._built.site.channels):
            if not channel.is_idle:
                continue
            if hand_over(channel):
                portion -= 1
            elif channel.idle_time > IDLE_TLS:
                channel.loseConnection()
            if not portion:
                return

    def _portion(self) -> int:
        """Return how many to hand over now, so that all are gone before our time is over."""
        left = max(2 * POLL, self._deadline - time.monotonic())
        return max(PORTION, math.ceil(len(self._built.site.channels) * 2 * POLL / left))

    def _end_recoveries(self) -> None:
        self._built.probes.stop()
        if self._recoveries.running:
            self._recoveries.stop()

    async def _until_alone(self, meanwhile: Callable[[], None]) -> None:
        while self._built.site.channels and time.monotonic() < self._deadline:
            meanwhile()
            await sleep(self._reactor, POLL)

    async def _end(self) -> None:
        self._built.site.abort()
        await self._built.tasks.ended()
        if self._renewals.running:  # as long as something runs, its lease must not expire
            self._renewals.stop()
        await _settled(self._built.database.close())
        self._built.threads.stop()
        await _settled(self._built.authentication.stop())
        await _settled(self._built.limits.stop())


async def _settled(result: Any) -> None:
    if hasattr(result, "__await__"):
        await result
