"""How many connections are accepted at a time on a shared socket, and on one of our own."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory, Protocol

from imgservice.process.acceptor import Acceptor
from tests.http.serving import until

WAITING = 5


class Guests(Factory):
    """Counts accepted connections."""

    noisy = False
    count = 0

    def buildProtocol(self, addr: IAddress | None) -> Protocol:
        self.count += 1
        return Protocol()


@pytest.fixture
def bound(tmp_path: Path) -> Iterator[socket.socket]:
    """A Unix socket at which clients wait."""
    with ExitStack() as stack:
        made = stack.enter_context(socket.socket(socket.AF_UNIX))
        made.bind(str(tmp_path / "socket"))
        made.listen(WAITING)
        for _ in range(WAITING):
            stack.enter_context(socket.socket(socket.AF_UNIX)).connect(made.getsockname())
        yield made


@pytest.mark.parametrize(("is_shared", "at_once"), [(False, WAITING), (True, 1)])
@pytest_twisted.ensureDeferred
async def test_only_who_has_fellows_leaves_them_their_turn(
    bound: socket.socket, is_shared: bool, at_once: int
) -> None:
    guests = Guests()
    acceptor = Acceptor(reactor, bound.dup(), guests, WAITING, is_shared)
    acceptor.startListening()
    try:
        acceptor.doRead()
        assert guests.count == at_once
        await until(lambda: guests.count == WAITING)
    finally:
        acceptor.stopListening()
