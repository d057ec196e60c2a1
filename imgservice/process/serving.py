"""One site on its sockets: listens, serves, and ends without cutting anybody off."""

import math
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Protocol, cast

import attrs
from twisted.internet.interfaces import IStreamServerEndpoint
from twisted.protocols.haproxy import proxyEndpoint

from imgservice.concurrency.reactor import Reactor, sleep
from imgservice.http.channel import StreamingChannel
from imgservice.http.site import StreamingSite
from imgservice.process.acceptor import Acceptor, SocketEndpoint
from imgservice.process.addresses import Address, keep_alive
from imgservice.process.components import Component, Components
from imgservice.process.sockets import ListeningSocket
from imgservice.process.tls.contexts import ServerContexts
from imgservice.process.tls.transport import ListeningEndpoint, TlsEndpoint
from imgservice.process.worker_pool import UnderWay

POLL = 0.05
PORTION = 100
"""Connections that are handed over at once: a request that comes meanwhile waits for them all."""
IDLE_TLS = 60.0
"""Seconds that a connection which cannot be handed over may be idle while we retire."""

HandOver = Callable[[StreamingChannel], bool]
"""Gives an idle connection to a successor; tells whether that was possible."""


class Health(Protocol):
    """What load balancers see."""

    is_leaving: bool


@attrs.frozen
class Built:
    """What one configuration comes to."""

    site: StreamingSite
    health: Health
    components: Sequence[Component]
    """In the order in which they start."""


@attrs.frozen(eq=False)
class _Listening:
    address: Address
    port: Acceptor


class Serving:
    """Serves what was built, with one configuration, from `start` to `stop` or `retire`."""

    def __init__(
        self,
        reactor: Reactor,
        built: Built,
        contexts: ServerContexts | None,
        keepidle: float,
        is_one_of_several: bool = False,
    ) -> None:
        self._reactor = reactor
        self._site = built.site
        self._health = built.health
        self._components = Components(built.components)
        self.contexts = contexts
        """The TLS with which we serve, or None."""
        self._keepidle = keepidle
        self._is_one_of_several = is_one_of_several
        """Whether other processes accept connections on the same sockets."""
        self._listening: dict[object, list[_Listening]] = {}
        self._deadline = math.inf
        self.since = time.time()

    # -- listening --------------------------------------------------------------------------------

    async def start(self, key: object, sockets: Sequence[ListeningSocket]) -> None:
        """Listen, and start the components; when either fails, nothing goes on."""
        try:
            self.listen(key, sockets)
            await self._components.start()
        except BaseException:
            self._close_all(lambda _: False)
            raise

    def listen(self, key: object, sockets: Sequence[ListeningSocket]) -> None:
        """Accept connections on these sockets until `close(key)`; they stay the caller's."""
        self._site.draining = False
        for address, bound in sockets:
            keep_alive(bound, self._keepidle)
            port = cast(Acceptor, self._endpoint(address, bound).listen(self._site).result)
            self._site.connection_limits.watch(port)
            self._listening.setdefault(key, []).append(_Listening(address, port))

    def _endpoint(self, address: Address, bound: socket.socket) -> ListeningEndpoint:
        is_shared = self._is_one_of_several and not address.is_divisible
        endpoint: ListeningEndpoint = SocketEndpoint(
            self._reactor, bound, address.backlog, is_shared
        )
        if address.is_proxied:
            endpoint = proxyEndpoint(cast(IStreamServerEndpoint, endpoint))
        if self.contexts is not None:
            endpoint = TlsEndpoint(self._reactor, endpoint, self.contexts)
        return endpoint

    def close(self, key: object, is_last: bool) -> None:
        """Accept no more; if no other process has the sockets, first accept who waits there."""
        for one in self._listening.pop(key, ()):
            self._close(one, is_last)

    def stop_accepting(self) -> None:
        """Accept no more until `listen`, where no other process does either; finish requests."""
        self._close_all(lambda _: True)
        self._site.drain()

    def _close(self, one: _Listening, is_last: bool) -> None:
        if is_last:
            one.port.accept_waiting()
        one.port.stopListening()

    def _close_all(self, is_last: Callable[[Address], bool]) -> None:
        for listening in self._listening.values():
            for one in listening:
                self._close(one, is_last(one.address))
        self._listening.clear()

    def take(self, channel: StreamingChannel) -> bool:
        """Go on with a connection of another site in this process."""
        channel.move(self._site)
        return True

    def take_connection(self, descriptor: int) -> None:
        """Go on with a connection that another process has handed over; the descriptor is ours."""
        with socket.socket(fileno=descriptor) as connection, suppress(OSError):
            connection.setblocking(False)
            taken = self._reactor.adoptStreamConnection(
                connection.fileno(), connection.family, self._site
            )
            taken.protocol.go_on()

    def set_health(self, is_well: bool) -> None:
        """Tell load balancers whether to send requests here."""
        self._health.is_leaving = not is_well

    @property
    def connections(self) -> int:
        return len(self._site.channels)

    @property
    def requests(self) -> int:
        """How many requests were answered."""
        return self._site.served

    @property
    def under_way(self) -> UnderWay:
        requests = [one.requests[0] for one in self._site.channels if one.requests]
        return len(requests), sum(one.is_transfer for one in requests)

    # -- the end ----------------------------------------------------------------------------------

    async def stop(self, grace: float) -> None:
        """Accept no more, give requests `grace` seconds to finish, and release everything."""
        self._components.retire()
        self._close_all(lambda _: True)
        self.hasten(grace)
        await self._until_no_connections(lambda: None)
        await self._end()

    async def retire(
        self, grace: float, is_removed: Callable[[Address], bool], hand_over: HandOver
    ) -> None:
        """Give way to a successor that serves already, without failing a request.

        `is_removed` tells at which addresses the successor does not listen. Requests have `grace`
        seconds to finish.
        """
        self._components.retire()
        self._close_all(is_removed)
        self._site.retire()
        self._deadline = min(self._deadline, time.monotonic() + grace)
        await self._until_no_connections(lambda: self._hand_over_idle(hand_over))
        await self._end()

    def hasten(self, grace: float) -> None:
        """Close idle connections now, others after their present answer, and all after `grace`.

        This holds for an end that has begun, too.
        """
        self._deadline = min(self._deadline, time.monotonic() + grace)
        self._site.drain()

    def _hand_over_idle(self, hand_over: HandOver) -> None:
        portion = self._portion()
        for channel in list(self._site.channels):
            if not channel.is_idle:
                continue
            if hand_over(channel):
                portion -= 1
            elif channel.idle_time > IDLE_TLS:
                channel.loseConnection()
            if not portion:
                return

    def _portion(self) -> int:
        """Return how many to hand over now, so that all are gone before the deadline."""
        left = max(2 * POLL, self._deadline - time.monotonic())
        return max(PORTION, math.ceil(len(self._site.channels) * 2 * POLL / left))

    async def _until_no_connections(self, meanwhile: Callable[[], None]) -> None:
        while self._site.channels and time.monotonic() < self._deadline:
            meanwhile()
            await sleep(self._reactor, POLL)

    async def _end(self) -> None:
        self._site.abort()
        await self._components.stop()
