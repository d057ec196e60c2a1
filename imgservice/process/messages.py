"""What the parent, the fork server and the workers tell each other, as JSON.

Descriptors that come with a message belong to the receiver.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, get_args

import attrs
import orjson

from imgservice.troubles import Trouble

LARGEST = 1 << 16
"""Bytes of a message."""
MOST_DESCRIPTORS = 250
"""In one message; the kernel takes 253."""


def _pair(found: Sequence[int]) -> tuple[int, int]:
    return found[0], found[1]


def _troubles(found: Iterable[Trouble | Mapping[str, Any]]) -> Sequence[Trouble]:
    return [one if isinstance(one, Trouble) else Trouble(**one) for one in found]


# -- from a worker --------------------------------------------------------------------------------


@attrs.frozen
class Ready:
    """The worker serves."""


@attrs.frozen
class Failed:
    """The worker cannot serve."""

    why: str


@attrs.frozen
class Beat:
    """The worker's reactor turns."""

    connections: int
    requests: int
    """How many were answered."""
    under_way: tuple[int, int] = attrs.field(converter=_pair)
    """Requests that are not finished, and how many of them move data."""
    troubles: Sequence[Trouble] = attrs.field(converter=_troubles)


@attrs.frozen
class Give:
    """Another worker shall go on with the connection that comes along."""


@attrs.frozen
class Leaving:
    """The worker ends, and accepts no more."""


# -- to a worker ----------------------------------------------------------------------------------


@attrs.frozen
class Listen:
    """Accept on the sockets that come along, too."""

    slot: int
    """Whose they are."""
    endpoints: Sequence[tuple[str, int]]
    """Endpoint strings, and the backlog of each."""


@attrs.frozen
class Unlisten:
    """Accept no more on the sockets of this slot."""

    slot: int


@attrs.frozen
class Take:
    """Go on with the connection that comes along."""


@attrs.frozen
class UseTls:
    """Use the TLS material in the file that comes along for new connections."""


@attrs.frozen
class SetHealth:
    """Tell load balancers whether to send requests here."""

    is_well: bool


@attrs.frozen
class Close:
    """Accept no more; requests go on."""


@attrs.frozen
class Retire:
    """End without failing a request: a successor serves."""

    removed: Sequence[str] | None
    """The addresses that nobody else listens on; None: all."""
    grace: float
    may_hand_over: bool


@attrs.frozen
class Stop:
    """End; requests may go on for so long."""

    grace: float


# -- to the fork server ---------------------------------------------------------------------------


@attrs.frozen
class Fork:
    """Fork a child, which has the descriptors that come along."""

    key: int
    """Names the child in all messages about it."""
    numbers: Sequence[int]
    """The number of each descriptor in the child."""
    arguments: Sequence[str]
    umask: int
    modules: Sequence[str] = ()
    """What the fork server imports before, so that its children share it."""


@attrs.frozen
class Reap:
    """Tell how the child has ended, which has exited."""

    key: int
    pid: int


# -- from the fork server -------------------------------------------------------------------------


@attrs.frozen
class Forked:
    """The child runs; its pidfd comes along."""

    key: int
    pid: int


@attrs.frozen
class NotForked:
    """The child could not be forked."""

    key: int
    why: str


@attrs.frozen
class Reaped:
    """The child is gone."""

    key: int
    code: int
    """Its exit code; negative: the signal that has ended it."""


FromWorker = Ready | Failed | Beat | Give | Leaving
ToWorker = Listen | Unlisten | Take | UseTls | SetHealth | Close | Retire | Stop
ToForkServer = Fork | Reap
FromForkServer = Forked | NotForked | Reaped
Message = FromWorker | ToWorker | ToForkServer | FromForkServer
_KINDS: Mapping[str, type[Message]] = {one.__name__: one for one in get_args(Message)}


def encode(message: Message) -> bytes:
    return orjson.dumps([type(message).__name__, attrs.asdict(message)])


def decode(data: bytes) -> Message:
    """Return a message of our own other end."""
    kind, fields = orjson.loads(data)
    return _KINDS[kind](**fields)
