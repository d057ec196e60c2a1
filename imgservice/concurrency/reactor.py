"""The types of Twisted's reactor: one Protocol for each ability, and `Reactor` for all of them.

Ask for the smallest that does: what takes a `Clock` can be tested with a clock that stands still.
Twisted's own interfaces belong to zope.interface, which tells a type checker nothing.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, cast

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IHostResolution,
    IReactorTime,
    ITransport,
)
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure


class DelayedCall(Protocol):
    """A timer that was set."""

    def cancel(self) -> None: ...

    def active(self) -> bool: ...

    def reset(self, seconds: float, /) -> None:
        """Let it run out so many seconds from now."""

    def getTime(self) -> float:
        """Return when it runs out, in the seconds of its clock."""


class Clock(Protocol):
    """Tells the time, and sets timers."""

    def seconds(self) -> float: ...

    def callLater(
        self, delay: float, callable: Callable[..., object], /, *args: object
    ) -> DelayedCall: ...


class ThreadedReactor(Protocol):
    """Takes calls from other threads; the only ability that they may use."""

    def callFromThread(self, callable: Callable[..., object], /, *args: object) -> None: ...


class Descriptor(Protocol):
    """What the reactor watches."""

    def fileno(self) -> int: ...

    def logPrefix(self) -> str: ...

    def connectionLost(self, reason: Failure, /) -> None: ...


class Reader(Descriptor, Protocol):
    def doRead(self) -> object: ...


class Writer(Descriptor, Protocol):
    def doWrite(self) -> object: ...


class DescriptorReactor(Protocol):
    """Tells when descriptors can be read or written."""

    def addReader(self, reader: Reader, /) -> None: ...

    def removeReader(self, reader: Reader, /) -> None: ...

    def addWriter(self, writer: Writer, /) -> None: ...

    def removeWriter(self, writer: Writer, /) -> None: ...


class ConnectionFactory(Protocol):
    """Makes the protocol of each connection; Twisted's factories are such."""

    def doStart(self) -> None: ...

    def doStop(self) -> None: ...

    def buildProtocol(self, address: Any, /) -> Any:
        """Return a Twisted protocol, or None to refuse the connection."""


class SocketReactor(Protocol):
    """Serves connections that were accepted elsewhere."""

    def adoptStreamConnection(
        self, descriptor: int, family: int, factory: ConnectionFactory, /
    ) -> ITransport:
        """Serve a connection, of which the reactor makes its own copy."""


class Process(Protocol):
    """Another process that was started."""

    @property
    def pid(self) -> int: ...

    def signalProcess(self, signal: int, /) -> None: ...


class ProcessReactor(Protocol):
    """Starts other processes."""

    def spawnProcess(
        self,
        protocol: ProcessProtocol,
        executable: str,
        args: Sequence[str],
        /,
        *,
        env: Mapping[str, str],
        childFDs: Mapping[int, int],
    ) -> Process: ...


class ResolutionReceiver(Protocol):
    """Is told the addresses of a host name."""

    def resolutionBegan(self, resolution: IHostResolution, /) -> None: ...

    def addressResolved(self, address: IPv4Address | IPv6Address, /) -> None: ...

    def resolutionComplete(self) -> None: ...


class HostnameResolver(Protocol):
    def resolveHostName(
        self,
        receiver: ResolutionReceiver,
        host: str,
        port: int,
        kinds: Sequence[type[IPv4Address | IPv6Address]],
        transport: str,
        /,
    ) -> object: ...


class ResolvingReactor(Protocol):
    """Looks up host names."""

    @property
    def nameResolver(self) -> HostnameResolver: ...


class RunningReactor(Protocol):
    """Runs, and ends."""

    @property
    def running(self) -> bool: ...

    def run(self) -> None: ...

    def stop(self) -> None: ...

    def callWhenRunning(self, callable: Callable[..., object], /, *args: object) -> object: ...

    def addSystemEventTrigger(
        self,
        phase: str,
        event: str,
        callable: Callable[..., object],
        /,
        *args: object,
    ) -> object:
        """Call at "startup" or "shutdown", in the phase "before", "during" or "after" it.

        Shutdown waits for the Deferreds that the calls before it return.
        """

    def getDelayedCalls(self) -> Sequence[DelayedCall]: ...

    def sigInt(self, number: int, frame: object = None, /) -> None: ...

    def sigTerm(self, number: int, frame: object = None, /) -> None: ...


class Reactor(
    Clock,
    ThreadedReactor,
    DescriptorReactor,
    SocketReactor,
    ProcessReactor,
    ResolvingReactor,
    RunningReactor,
    Protocol,
):
    """All that a reactor does for us."""


def installed_reactor() -> Reactor:
    """Return the reactor of this process; the first call makes it."""
    from twisted.internet import reactor

    return cast(Reactor, reactor)


def twisted_clock(clock: Clock) -> IReactorTime:
    """Return the clock as the type that Twisted's annotations ask for."""
    return cast(IReactorTime, clock)


def looping_call(clock: Clock, work: Callable[[], object]) -> LoopingCall:
    """Return what calls `work` again and again once it is started, by this clock."""
    call = LoopingCall(work)
    call.clock = twisted_clock(clock)
    return call


def sleep(clock: Clock, seconds: float) -> Deferred[None]:
    """Return what fires after so many seconds."""
    slept: Deferred[None] = Deferred()
    clock.callLater(seconds, slept.callback, None)
    return slept
