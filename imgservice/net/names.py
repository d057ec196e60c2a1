"""Resolves host names as the system does."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.interfaces import IHostResolution, IResolutionReceiver
from zope.interface import implementer

from imgservice.concurrency.reactor import Clock, ResolvingReactor, twisted_clock
from imgservice.net.errors import FetchFailed

Resolver = Callable[[str], Awaitable[Sequence[str]]]
"""Returns the addresses of a host, none when it has none."""


class Resolving(Clock, ResolvingReactor, Protocol):
    """What a `SystemResolver` needs of the reactor."""


class SystemResolver:
    """A `Resolver` that gives up after a time."""

    def __init__(self, reactor: Resolving, timeout: float = 30.0) -> None:
        self._reactor = reactor
        self._timeout = timeout

    async def __call__(self, host: str) -> Sequence[str]:
        try:
            return await lookup(self._reactor, host).addTimeout(
                self._timeout, twisted_clock(self._reactor)
            )
        except TimeoutError as error:
            raise FetchFailed("cannot be found: the lookup of its name takes too long") from error


def lookup(reactor: ResolvingReactor, host: str) -> Deferred[Sequence[str]]:
    """Return the addresses of a host, each once; waits as long as the system does."""
    addresses = _Addresses()
    reactor.nameResolver.resolveHostName(addresses, host, 0, [IPv4Address, IPv6Address], "TCP")
    return addresses.complete


@implementer(IResolutionReceiver)
class _Addresses:
    def __init__(self) -> None:
        self.complete: Deferred[Sequence[str]] = Deferred()
        self._found: dict[str, None] = {}

    def resolutionBegan(self, resolution: IHostResolution) -> None:
        """Do nothing: a lookup that takes too long is not waited for, and not cancelled."""

    def addressResolved(self, address: IPv4Address | IPv6Address) -> None:
        self._found[address.host] = None

    def resolutionComplete(self) -> None:
        if not self.complete.called:
            self.complete.callback(list(self._found))


def is_address(host: str) -> bool:
    """Tell whether a host, in its normal spelling, is an address and not a name."""
    return ":" in host or host.rpartition(".")[2].isdigit()
