"""What the supervisor asks of a worker pool."""

from collections.abc import Iterable, Sequence
from typing import Protocol, TypedDict

from imgservice.process.phases import WorkerState
from imgservice.process.setup import Setup
from imgservice.process.sockets import Change, Sockets
from imgservice.process.tls.material import TlsMaterial
from imgservice.troubles import TroubleLog

UnderWay = tuple[int, int]
"""Requests that are not finished, and how many of them move data in either direction."""


class WorkerPoolError(Exception):
    """No process can serve with this setup; the message tells why."""


class WorkerReport(TypedDict):
    """What there is to say of one process that serves."""

    slot: int
    pid: int
    state: WorkerState
    since: float
    """When it was started, by the wall clock."""
    generation: int
    """Of its configuration."""
    connections: int
    requests: int
    """How many were answered."""
    under_way: int
    """Requests that are not finished."""
    transfers: int
    """How many of them move data."""


class Counting(Protocol):
    """What counts its connections and requests."""

    @property
    def since(self) -> float: ...

    @property
    def connections(self) -> int: ...

    @property
    def requests(self) -> int: ...

    @property
    def under_way(self) -> UnderWay: ...


def worker_report(
    counting: Counting, slot: int, pid: int, state: WorkerState, generation: int
) -> WorkerReport:
    """Return what there is to say of a process that serves."""
    under_way, transfers = counting.under_way
    return {
        "slot": slot,
        "pid": pid,
        "state": state,
        "since": round(counting.since, 3),
        "generation": generation,
        "connections": counting.connections,
        "requests": counting.requests,
        "under_way": under_way,
        "transfers": transfers,
    }


class WorkerPool(Protocol):
    """Whoever serves: this process itself, or others that it watches."""

    slots: int
    """How many sockets are needed at each address."""
    trouble: str | None
    """What went wrong last, and still is."""
    troubles: TroubleLog
    """What does not work of all that we depend on."""

    def count(self, setup: Setup) -> int:
        """Return how many sockets the setup needs at each address."""

    async def start(self, setup: Setup, sockets: Sockets) -> None:
        """Serve; `WorkerPoolError` when that cannot be."""

    async def change(self, setup: Setup, sockets: Sockets, change: Change) -> None:
        """Serve with this setup instead of the present one, without failing a request.

        `WorkerPoolError` when that cannot be: then the present one still holds.
        """

    def set_tls(self, material: TlsMaterial) -> None:
        """Use these certificates for new connections."""

    def set_health(self, is_well: bool) -> None:
        """Tell load balancers whether to send requests here."""

    async def close(self) -> None:
        """Accept no more; requests go on."""

    def reopen(self, sockets: Sockets) -> None:
        """Accept again after `close`."""

    async def stop(self, grace: float) -> None:
        """End; requests may go on for so long."""

    def kill(self) -> None:
        """End other processes at once; what they do is left as it is."""

    @property
    def under_way(self) -> UnderWay:
        """What would have to be finished."""

    def report(self) -> Sequence[WorkerReport]:
        """Return what there is to say of each process that serves."""

    @property
    def is_alive(self) -> bool:
        """Whether at least one process serves, and does not hang."""


def in_all(counts: Iterable[UnderWay]) -> UnderWay:
    """Add up what is under way in several processes."""
    requests = transfers = 0
    for one in counts:
        requests, transfers = requests + one[0], transfers + one[1]
    return requests, transfers
