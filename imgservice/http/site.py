"""The factory of the server's connections."""

from collections.abc import Callable
from typing import cast

from twisted.internet.interfaces import IAddress
from twisted.web.http import HTTPFactory
from twisted.web.resource import Resource
from twisted.web.server import Site

from imgservice.concurrency.reactor import Clock, twisted_clock
from imgservice.http.answer_memory import AnswerMemory
from imgservice.http.channel import StreamingChannel
from imgservice.http.connection_limits import ConnectionLimits
from imgservice.http.limits import ServerLimits
from imgservice.http.request import StreamingRequest
from imgservice.http.timeouts import Sweeper


class StreamingSite(Site):
    """Makes the connections, knows all of them, and can end them without failing a request."""

    protocol = StreamingChannel  # type: ignore[assignment]  # Twisted names its HTTP/2 wrapper here
    displayTracebacks = False

    def __init__(
        self,
        resource: Resource,
        *,
        reactor: Clock,
        limits: ServerLimits,
        connection_limits: ConnectionLimits | None = None,
        finished: Callable[[StreamingRequest], None] | None = None,
    ) -> None:
        """Call `finished` with each request when its answer is complete or its client is gone."""
        super().__init__(
            resource,
            requestFactory=StreamingRequest,
            parsePOSTFormSubmission=False,
            timeout=limits.idle_timeout,
            reactor=twisted_clock(reactor),
        )
        self.limits = limits
        self.connection_limits = connection_limits or ConnectionLimits(reactor)
        self.channels: set[StreamingChannel] = set()
        self.answers = AnswerMemory(reactor, limits.answer_memory)
        self.draining = False
        self.retiring = False
        self.served = 0
        """Requests that have ended."""
        self._finished = finished
        self.seconds = reactor.seconds
        self._sweeper = Sweeper(self.channels, limits.sweep_interval, reactor)

    def buildProtocol(  # type: ignore[override]  # Twisted names its HTTP/2 wrapper here, too
        self, addr: IAddress | None
    ) -> StreamingChannel:
        channel = cast(StreamingChannel, HTTPFactory.buildProtocol(self, addr))
        channel.site = self
        channel.requestFactory = self.requestFactory
        return channel

    def acceptableProtocols(self) -> list[bytes]:
        """Never offer HTTP/2, in which bodies begin before all headers are there."""
        return [b"http/1.1"]

    def startFactory(self) -> None:
        self._sweeper.start()

    def stopFactory(self) -> None:
        """Check the timeouts of connections until the last one has ended."""
        self._sweeper.stop_when_empty()

    def log(self, request: StreamingRequest) -> None:  # type: ignore[override]
        """Count a request that has ended; Twisted calls this once for each."""
        self.served += 1
        if self._finished is not None:
            self._finished(request)

    def drain(self) -> None:
        """Close idle connections now, and the others after their current answer."""
        self.draining = True
        for channel in list(self.channels):
            if channel.is_idle:
                channel.loseConnection()

    def retire(self) -> None:
        """Close connections that cannot move to another process after their next answer."""
        self.retiring = True

    def abort(self) -> None:
        """Abort all connections."""
        for channel in list(self.channels):
            channel.abort()
