"""The spellings of addresses to listen on."""

import socket
from contextlib import closing

import pytest

from imgservice.config.errors import ConfigError
from imgservice.config.loader import parse
from imgservice.process.addresses import ListenError, bind, read_address

SHORT = [
    ("9292", "tcp", "", 9292),
    (":9292", "tcp", "", 9292),
    ("*:9292", "tcp", "", 9292),
    ("127.0.0.1:9292", "tcp", "127.0.0.1", 9292),
    ("localhost:9292", "tcp", "localhost", 9292),
    ("[::1]:9292", "tcp6", "::1", 9292),
    ("[::]:9292", "tcp6", "::", 9292),
    ("tcp:9292", "tcp", "", 9292),
    ("tcp:9292:interface=10.0.0.1", "tcp", "10.0.0.1", 9292),
    ("tcp6:9292", "tcp6", "::", 9292),
    ("tcp6:9292:interface=::1", "tcp6", "::1", 9292),
    ("tcp6:9292:interface=[::1]", "tcp6", "::1", 9292),
    (r"tcp6:9292:interface=\:\:1", "tcp6", "::1", 9292),
    ("tcp6:interface=2001:db8::7:port=9292", "tcp6", "2001:db8::7", 9292),
]


@pytest.mark.parametrize(("written", "kind", "host", "port"), SHORT)
@pytest.mark.parametrize("is_proxied", [False, True])
def test_forms(written: str, kind: str, host: str, port: int, is_proxied: bool) -> None:
    found = read_address(f"haproxy:{written}" if is_proxied else written, 100)
    assert (found.kind, found.host, found.port) == (kind, host, port)
    assert (found.backlog, found.is_proxied) == (100, is_proxied)
    assert found.is_loopback == (host in ("127.0.0.1", "::1", "localhost"))
    assert read_address(f"{written}:backlog=7", 100).backlog == 7


@pytest.mark.parametrize(
    ("written", "complaint"),
    [
        ("", "unknown kind ''"),
        ("tpc:9292", "or write a port, 127.0.0.1:9292 or [::1]:9292"),
        ("::1:9292", "or write a port, 127.0.0.1:9292 or [::1]:9292"),
        ("[::1]", "or write a port, 127.0.0.1:9292 or [::1]:9292"),
        ("127.0.0.1", "or write a port, 127.0.0.1:9292 or [::1]:9292"),
        ("haproxy:", "unknown kind ''"),
        ("70000", "expected a port from 0 to 65535, got '70000'"),
        ("[zz]:9292", "interface 'zz': "),
        ("300.0.0.1:9292", "interface '300.0.0.1': "),
        ("tcp:9292:interface=::1", "the interface '::1' is an IPv6 address: write tcp6"),
        ("127.0.0.1:9292:colour=red", "unknown option 'colour'"),
    ],
)
def test_mistakes(written: str, complaint: str) -> None:
    with pytest.raises(ListenError) as caught:
        read_address(written, 100)
    assert complaint in str(caught.value)
    assert repr(written) in str(caught.value)


@pytest.mark.parametrize("written", ["[::1]:0", "tcp6:0:interface=::1", "127.0.0.1:0"])
def test_one_can_connect_there(written: str) -> None:
    address = read_address(written, 100)
    [bound] = bind(address, 1, False, None)
    with closing(bound), socket.socket(address.family) as client:
        bound.listen()
        client.connect(bound.getsockname()[:2])
        assert client.getpeername()[0] == address.host


def test_a_port_needs_no_quotes() -> None:
    config = parse("server: {listen: [9292, '[::1]:9293', 127.0.0.1:9294]}", "x.yaml")
    assert config.server.listen == ("9292", "[::1]:9293", "127.0.0.1:9294")
    with pytest.raises(ConfigError, match=r"x.yaml:1: server.listen\[0\]: expected a string"):
        parse("server: {listen: [true]}", "x.yaml")
