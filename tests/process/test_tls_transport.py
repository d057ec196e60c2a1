"""The private names of Twisted that `TlsTransport` uses, and what it makes of them."""

import gc
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, cast
from weakref import ref

import pytest
from OpenSSL import SSL
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.python.failure import Failure

from imgservice.config.sections.server import TlsOptions
from imgservice.process.tls.contexts import ServerContexts
from imgservice.process.tls.files import read_material
from imgservice.process.tls.transport import PIECE, TlsEndpoint, TlsTransport
from tests.process.certificates import write_certificate

DATA = os.urandom(5 * PIECE + 4321)


class Greeting(Protocol):
    """Sends much at once before the handshake is done."""

    transport: Any

    def connectionMade(self) -> None:
        self.transport.write(DATA)


class Wire(StringTransport):
    """Takes what is sent and remembers how it came."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []

    def write(self, data: bytes) -> None:
        self.sizes.append(len(data))
        super().write(data)

    def taken(self) -> bytes:
        data: bytes = self.value()
        self.clear()
        return data


class Endpoint:
    """Has one connection, which is made as soon as `listen` is called."""

    def __init__(self) -> None:
        self.wire = Wire()

    def listen(self, factory: TLSMemoryBIOFactory) -> None:
        made = factory.buildProtocol(self.wire.getHost())
        assert isinstance(made, TlsTransport)
        self.transport = made
        made.makeConnection(self.wire)


class Talk:
    """A client of pyOpenSSL and a server of ours, joined in memory."""

    def __init__(self, directory: Path) -> None:
        certificate, key = directory / "cert.pem", directory / "key.pem"
        write_certificate(certificate, key)
        material = read_material(TlsOptions(certificate=str(certificate), key=str(key)))
        self.clock, endpoint = Clock(), Endpoint()
        factory: Any = Factory.forProtocol(Greeting)
        TlsEndpoint(self.clock, cast(Any, endpoint), ServerContexts(material)).listen(factory)
        self.wire, self.transport = endpoint.wire, endpoint.transport
        self._client = SSL.Connection(SSL.Context(SSL.TLS_CLIENT_METHOD))
        self._client.set_connect_state()

    def received(self, length: int) -> bytes:
        """Let both sides talk until so much has come."""
        data = b""
        while len(data) < length:
            self.clock.advance(0)
            for piece in self._exchanged():
                data += piece
        return data

    def _exchanged(self) -> Iterator[bytes]:
        with suppress(SSL.WantReadError):
            while True:
                yield self._client.recv(1 << 16)
        with suppress(SSL.WantReadError):
            self.transport.dataReceived(self._client.bio_read(1 << 16))
        if sent := self.wire.taken():
            self._client.bio_write(sent)


@pytest.fixture
def talk(tmp_path: Path) -> Talk:
    return Talk(tmp_path)


def test_twisted_has_what_is_overridden_and_used() -> None:
    ours = {name for name in vars(TlsTransport) if not name.startswith("__")}
    used = {"_bufferedWrite", "_tlsShutdownFinished", "_lostTLSConnection"}
    assert ours | used <= set(dir(TLSMemoryBIOProtocol))
    assert ours == {"_write", "_flushSendBIO", "_tlsShutdownFinished"}


def test_what_is_sent_early_comes_after_the_handshake(talk: Talk) -> None:
    assert talk.received(len(DATA)) == DATA


@pytest.mark.parametrize("size", [1, 16384, PIECE - 1, PIECE, PIECE + 1, 1 << 20])
def test_everything_comes_in_pieces(talk: Talk, size: int) -> None:
    talk.received(len(DATA))
    talk.wire.sizes.clear()
    data = os.urandom(size)
    talk.transport.write(data)
    talk.clock.advance(0)
    pieces = -(-size // PIECE)
    assert len(talk.wire.sizes) == pieces
    assert talk.received(size) == data


def test_nothing_is_left_in_openssl(talk: Talk) -> None:
    """What one piece becomes fits into what is fetched at a time."""
    talk.received(len(DATA))
    talk.transport.write(os.urandom(1 << 20))
    handle = talk.transport.getHandle()
    with pytest.raises(SSL.WantReadError):
        handle.bio_read(1)


def test_a_lost_connection_is_released_without_the_garbage_collector(talk: Talk) -> None:
    """Its buffers would otherwise stay for hundreds of connections."""
    talk.received(len(DATA))
    handle = ref(talk.transport.getHandle())
    gc.disable()
    try:
        talk.transport.connectionLost(Failure(ConnectionDone()))
        assert handle() is None
    finally:
        gc.enable()
