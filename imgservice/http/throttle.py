"""Limits the rate of transfers, and the number of uploads at the same time."""

import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import aclosing, contextmanager

import attrs
from twisted.internet.defer import CancelledError, Deferred

from imgservice.concurrency.reactor import Clock
from imgservice.concurrency.wakeup import WakeUp
from imgservice.domain.context import Context
from imgservice.domain.errors import BodyAborted, TooManyRequests
from imgservice.domain.rates import CROWDED, Buckets, Places
from imgservice.http.body import UNREAD_LIMIT
from imgservice.http.request import StreamingRequest

SMALLEST_PIECE = 16 << 10
PIECES_A_SECOND = 8
"""How often a throttled transfer moves something."""


class Throttle:
    """Slows one transfer down to the rates of its token buckets.

    All transfers of a project take from one bucket, and so share its rate.
    """

    def __init__(
        self,
        request: StreamingRequest,
        payers: Sequence[tuple[Buckets, str]],
        clock: Clock,
        seconds: Callable[[], float],
    ) -> None:
        self._payers = payers
        self._clock = clock
        self._seconds = seconds
        slowest = min(buckets.rate.per_second for buckets, _ in payers)
        self.piece = max(SMALLEST_PIECE, int(slowest / PIECES_A_SECOND))
        """How much to move at a time, at most."""
        self._pause = WakeUp()
        self._ended = request.disconnected
        request.notifyFinish().addBoth(self._end)

    def pay(self, count: int) -> float:
        """Take so many bytes from the buckets; return the seconds to wait before the next ones."""
        now = self._seconds()
        for buckets, key in self._payers:
            buckets.take(key, now, count)
        return max(buckets.debt(key, now) for buckets, key in self._payers)

    async def keep(self, count: int) -> None:
        """Take from the buckets, and wait until they are balanced or the client is gone."""
        debt = self.pay(count)
        if debt <= 0 or self._ended:
            return
        timer = self._clock.callLater(debt, self._pause.wake)
        await self._pause.wait()
        if timer.active():
            timer.cancel()

    async def slowed(
        self,
        blocks: Callable[[int, Callable[[], int]], AsyncIterator[bytes]],
        largest: int,
        window: Callable[[], int],
    ) -> AsyncIterator[bytes]:
        """Yield the blocks of a body at the rate, with little of it waiting in memory."""

        def narrow() -> int:
            return min(window(), max(UNREAD_LIMIT, 2 * self.piece))

        async for block in blocks(min(largest, self.piece), narrow):
            await self.keep(len(block))
            yield block

    def _end(self, _: object) -> None:
        self._ended = True
        self._pause.wake()


async def while_connected(
    request: StreamingRequest, blocks: AsyncGenerator[bytes, None]
) -> AsyncIterator[bytes]:
    """Yield the blocks of a stream from elsewhere while the client is connected.

    When it disconnects, waiting for a block ends at once and the stream is closed: `BodyAborted`.
    """
    step: Deferred[bytes] | None = None

    def leave(_: object) -> None:
        if step is not None:
            step.cancel()

    request.notifyFinish().addErrback(leave)
    async with aclosing(blocks):
        while not request.disconnected:
            step = Deferred.fromCoroutine(_next(blocks))
            try:
                block = await step
            except CancelledError:
                break
            if not block:
                return
            yield block
    raise BodyAborted("The client closed the connection before the data was read.")


async def _next(blocks: AsyncGenerator[bytes, None]) -> bytes:
    """Return the next block, empty at the end."""
    return await anext(blocks, b"")


@attrs.frozen
class ByteRates:
    """The buckets of transfers in one direction."""

    by_user: Buckets | None = None
    by_project: Buckets | None = None

    def payers(self, context: Context) -> Iterator[tuple[Buckets, str]]:
        if self.by_user is not None and context.user is not None:
            yield self.by_user, context.user
        if self.by_project is not None and context.project is not None:
            yield self.by_project, context.project


class Transfers:
    """The limits of all transfers in this process."""

    def __init__(
        self,
        reactor: Clock,
        incoming: ByteRates,
        outgoing: ByteRates,
        uploads: Places,
        exempt_roles: Iterable[str],
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        self._reactor = reactor
        self._incoming = incoming
        self._outgoing = outgoing
        self._uploads = uploads
        self._exempt_roles = frozenset(role.lower() for role in exempt_roles)
        self._seconds = seconds

    def incoming(self, request: StreamingRequest) -> Throttle | None:
        """Return the throttle of an upload, None without a limit."""
        return self._throttle(request, self._incoming)

    def outgoing(self, request: StreamingRequest) -> Throttle | None:
        """Return the throttle of a download, None without a limit."""
        return self._throttle(request, self._outgoing)

    def _throttle(self, request: StreamingRequest, rates: ByteRates) -> Throttle | None:
        payers = [] if self._is_exempt(request.context) else list(rates.payers(request.context))
        return Throttle(request, payers, self._reactor, self._seconds) if payers else None

    @contextmanager
    def upload(self, context: Context) -> Iterator[None]:
        """Count an upload while the block runs; `TooManyRequests` when there are too many.

        Reading the data of a location counts as well. The limit in all protects the process, and
        so holds for administrators too.
        """
        project = context.project or f"user {context.user}"
        if self._uploads.are_all_taken():
            raise TooManyRequests("Too many uploads at the same time.", CROWDED)
        if self._uploads.are_taken(project) and not self._is_exempt(context):
            raise TooManyRequests("Too many uploads of your project at the same time.", CROWDED)
        with self._uploads.one(project):
            yield

    def _is_exempt(self, context: Context) -> bool:
        return not self._exempt_roles.isdisjoint(context.roles)
