"""The sockets that we listen on; they outlive the processes and configurations that use them."""

import socket
from collections.abc import Callable, Mapping, Sequence

import attrs

from imgservice.process.addresses import Address, release

Bind = Callable[[Address, int, socket.socket | None], list[socket.socket]]
"""Make so many bound sockets at the address, of which there may be one already."""
ListeningSocket = tuple[Address, socket.socket]


@attrs.frozen
class _Opened:
    address: Address
    sockets: list[socket.socket]
    """One for each slot."""


class Sockets:
    """All bound sockets, by address and by slot; a worker and its successor share a slot."""

    def __init__(self, bind: Bind) -> None:
        self._bind = bind
        self._opened: Mapping[str, _Opened] = {}

    def of(self, slot: int) -> list[ListeningSocket]:
        """Return the sockets of a slot, which stay ours to close."""
        return [(one.address, one.sockets[slot]) for one in self._opened.values()]

    def prepare(self, addresses: Sequence[Address], count: int) -> "Change":
        """Bind what is new. `ConfigError` when that fails; then nothing has changed."""
        made: list[socket.socket] = []
        wanted: dict[str, _Opened] = {}
        change = Change(self, self._opened, wanted, made)
        try:
            for address in addresses:
                present = self._opened.get(address.description)
                sockets = present.sockets[:count] if present else []
                if missing := count - len(sockets):
                    added = self._bind(address, missing, sockets[0] if sockets else None)
                    made += added
                    sockets = [*sockets, *added]
                wanted[address.description] = _Opened(address, sockets)
        except BaseException:
            change.undo()
            raise
        return change

    def adopt(self, opened: Mapping[str, _Opened]) -> None:
        self._opened = opened

    def close(self) -> None:
        """Close all of them."""
        for one in self._opened.values():
            release(one.address, one.sockets)
        self._opened = {}


@attrs.frozen
class Change:
    """The way from the present sockets to those of another configuration."""

    _sockets: Sockets
    _before: Mapping[str, _Opened]
    _after: Mapping[str, _Opened]
    _made: Sequence[socket.socket]

    @property
    def removed(self) -> frozenset[str]:
        """The descriptions of the addresses that are given up."""
        return frozenset(self._before.keys() - self._after.keys())

    def begin(self) -> None:
        """Hand out the new sockets from now on; the old ones stay open."""
        self._sockets.adopt(self._after)

    def undo(self) -> None:
        """Go back to the state before `begin`."""
        self._sockets.adopt(self._before)
        for description in self._after.keys() - self._before.keys():
            one = self._after[description]
            release(one.address, one.sockets)
        for made in self._made:
            made.close()

    def close_left(self, slot: int) -> None:
        """Close our copies of sockets that the slot gives up; its old worker has its own."""
        for description, one in self._before.items():
            after = self._after.get(description)
            if slot < len(one.sockets) and (after is None or slot >= len(after.sockets)):
                one.sockets[slot].close()

    def finish(self) -> None:
        """Close the addresses that are given up."""
        for description in self.removed:
            one = self._before[description]
            release(one.address, one.sockets)
