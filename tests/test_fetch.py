"""The guarded fetcher, against a real web server on 127.0.0.1."""

import gc
import ssl
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import aclosing, closing, suppress
from ipaddress import IPv4Address, ip_address, ip_network
from pathlib import Path
from socket import create_server, socket
from typing import Any, cast

import pytest
import pytest_twisted
from twisted.internet import reactor as installed_reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from imgservice import __version__
from imgservice.domain.errors import TooLarge
from imgservice.domain.url_filter import Address, Refused, UrlFilter
from imgservice.net.answers import MOST_WAITING, Fetched
from imgservice.net.client import ConfiguredClient, Fetcher
from imgservice.net.connections import LARGE_READ
from imgservice.net.errors import FetchFailed
from imgservice.net.interfaces import BindableAddresses, own_addresses
from imgservice.net.limits import FetchLimits
from imgservice.net.tls import tls_policy
from tests.origin import Origin, origin
from tests.process.certificates import write_certificate

reactor = cast(Any, installed_reactor)
HERE = ip_network("127.0.0.1/32")
PATIENT = FetchLimits(connect=60, idle=60, head=32 << 10)
HASTY = FetchLimits(connect=60, idle=0.3)


@pytest.fixture
def server() -> Iterator[Origin]:
    with origin() as started:
        yield started


def rules(**more: Any) -> UrlFilter:
    """Let nothing but 127.0.0.1 be reached, on any port."""
    return UrlFilter(**{"allowed_ports": (), "exempt": (HERE,), **more})


class Names:
    """A resolver that answers each question with the next of its answers, the last for ever."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    async def __call__(self, host: str) -> Sequence[str]:
        self.asked.append(host)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


def fetcher(resolve: Names | None = None, **more: Any) -> Fetcher:
    return Fetcher(reactor, rules(**more), PATIENT, resolve)


async def whole(fetched: Fetched, limit: int | None = None) -> bytes:
    return b"".join([block async for block in fetched.blocks(limit)])


async def pause(seconds: float) -> None:
    await deferLater(reactor, seconds)


@pytest_twisted.ensureDeferred
async def test_an_answer_is_read(server: Origin) -> None:
    data = bytes(range(256)) * 20000
    fetched = await fetcher().open("GET", server.put("/x?y=1", data))
    assert (fetched.status, fetched.length) == (200, len(data))
    assert await whole(fetched) == data
    assert server.asked[0].path == "/x?y=1"
    assert server.asked[0].headers["Host"] == f"127.0.0.1:{server.port}"
    assert server.asked[0].headers["User-Agent"] == f"imgservice/{__version__}"


@pytest_twisted.ensureDeferred
async def test_head_and_other_statuses_are_answers_too(server: Origin) -> None:
    fetched = await fetcher().open("HEAD", server.put("/x", b"12345"))
    assert (fetched.status, fetched.length, await whole(fetched)) == (200, 5, b"")
    fetched = await fetcher().open("GET", server.url("/missing"), {"range": "bytes=0-0"})
    assert fetched.status == 404
    fetched.abort()
    assert server.asked[1].headers["Range"] == "bytes=0-0"


@pytest_twisted.ensureDeferred
async def test_without_the_allowance_this_host_is_out_of_reach(server: Origin) -> None:
    url = server.put("/x", b"data")
    strict = Fetcher(reactor, UrlFilter(allowed_ports=()), PATIENT)
    for spelling in ("127.0.0.1", "localhost", "LOCALHOST.", "0x7f.1", "[::1]", "127.0.0.1.",
                     "[::ffff:127.0.0.1]", "2130706433", "user:pw@127.0.0.1"):  # fmt: skip
        for ask in (strict.open("GET", url.replace("127.0.0.1", spelling)),
                    strict.check(url.replace("127.0.0.1", spelling))):  # fmt: skip
            with pytest.raises(Refused) as caught:
                await ask
            assert "127" not in caught.value.message
    assert server.asked == []


@pytest_twisted.ensureDeferred
async def test_the_connection_goes_to_the_address_that_was_judged(server: Origin) -> None:
    """A name that leads elsewhere when it is asked a second time is not asked a second time."""
    names = Names(["127.0.0.1"], ["169.254.169.254"])
    url = server.put("/x", b"data")
    fetched = await fetcher(names).open("GET", url.replace("127.0.0.1", "rebinding.example"))
    assert await whole(fetched) == b"data"
    assert names.asked == ["rebinding.example"]
    assert server.asked[0].headers["Host"] == f"rebinding.example:{server.port}"


@pytest_twisted.ensureDeferred
async def test_each_redirect_is_looked_up_and_judged_anew(server: Origin) -> None:
    names = Names(["127.0.0.1"], ["127.0.0.2"])
    server.put("/y", b"secret")
    url = server.redirect("/x", server.url("/y", "rebinding.example"))
    with pytest.raises(Refused):
        await fetcher(names).open("GET", url.replace("127.0.0.1", "rebinding.example"))
    assert [asked.path for asked in server.asked] == ["/x"]


@pytest_twisted.ensureDeferred
async def test_one_forbidden_address_among_many_is_enough(server: Origin) -> None:
    url = server.put("/x", b"data").replace("127.0.0.1", "two.example")
    with pytest.raises(Refused):
        await fetcher(Names(["127.0.0.1", "127.0.0.2"])).open("GET", url)
    with pytest.raises(Refused):
        await fetcher(Names([])).open("GET", url)
    assert server.asked == []


@pytest_twisted.ensureDeferred
async def test_the_next_address_is_tried_when_one_does_not_answer(server: Origin) -> None:
    more = rules(exempt=(HERE, ip_network("127.0.0.9/32")))
    names = Names(["127.0.0.9", "127.0.0.1"])
    url = server.put("/x", b"data").replace("127.0.0.1", "two.example")
    fetched = await Fetcher(reactor, more, PATIENT, names).open("GET", url)
    assert await whole(fetched) == b"data"


@pytest.mark.parametrize(
    "to",
    [
        "http://127.0.0.2:{port}/y", "http://169.254.169.254/latest", "http://0x7f.2:{port}/y",
        "http://[::ffff:127.0.0.2]:{port}/y", "//localhost.:0/y", "file:///etc/passwd",
        "ftp://127.0.0.1/", "gopher://127.0.0.1:{port}/", "http://[", "http://a b/",
        "http://127.0.0.1\\@127.0.0.2/",
    ],
)  # fmt: skip
@pytest_twisted.ensureDeferred
async def test_redirects_out_of_bounds(server: Origin, to: str) -> None:
    with pytest.raises(Refused):
        await fetcher().open("GET", server.redirect("/x", to.format(port=server.port)))
    assert len(server.asked) == 1


@pytest_twisted.ensureDeferred
async def test_redirects_within_bounds_are_followed(server: Origin) -> None:
    server.put("/end", b"data")
    server.redirect("/4", "end", 308)
    for number, status in enumerate((301, 302, 303, 307)):
        server.redirect(f"/{number}", f"/{number + 1}", status)
    assert await whole(await fetcher().open("GET", server.url("/0"))) == b"data"
    server.redirect("/again", "/0")
    with pytest.raises(FetchFailed):
        await fetcher().open("GET", server.url("/again"))
    assert server.asked[-1].path == "/4"


@pytest_twisted.ensureDeferred
async def test_ports_and_schemes(server: Origin) -> None:
    url = server.put("/x", b"data")
    with pytest.raises(Refused):
        await fetcher(allowed_ports=(80, 443)).open("GET", url)
    with pytest.raises(Refused):
        await fetcher(disallowed_ports=(server.port,)).open("GET", url)
    with pytest.raises(Refused):
        await fetcher(allowed_schemes=("https",)).open("GET", url)
    assert server.asked == []


@pytest_twisted.ensureDeferred
async def test_credentials_go_to_their_server_only_and_into_no_message(server: Origin) -> None:
    server.put("/y", b"data")
    with origin() as other:
        other.put("/z", b"data")
        server.redirect("/y", other.url("/z"))
        url = server.redirect("/x", "/y").replace("//", "//user:pa%3Ass@")
        await whole(await fetcher().open("GET", url))
        sent = [asked.headers.get("Authorization") for asked in server.asked + other.asked]
    assert sent == ["Basic dXNlcjpwYTpzcw==", "Basic dXNlcjpwYTpzcw==", None]
    with pytest.raises(FetchFailed) as caught:  # the other server is gone
        await fetcher().open("GET", url)
    assert "pa" not in caught.value.message.split()
    assert not {"user", "127.0.0.1"} & set(caught.value.message.replace(":", " ").split())


@pytest_twisted.ensureDeferred
async def test_more_than_the_cap_is_refused_while_it_comes(server: Origin) -> None:
    fetched = await fetcher().open("GET", server.put("/x", bytes(1 << 20)))
    with pytest.raises(TooLarge):
        await whole(fetched, 1 << 19)
    fetched = await fetcher().open("GET", server.url("/x"))
    assert len(await whole(fetched, 1 << 20)) == 1 << 20


@pytest_twisted.ensureDeferred
async def test_data_that_breaks_off_is_told(server: Origin) -> None:
    fetched = await fetcher().open("GET", server.put("/x", bytes(1 << 20), cut=1000))
    with pytest.raises(FetchFailed):
        await whole(fetched)


@pytest_twisted.ensureDeferred
async def test_no_more_is_read_than_is_wanted() -> None:
    """The server can send no more than the buffers on the way hold."""
    sent = 0
    with closing(create_server(("127.0.0.1", 0))) as listening:
        asking = Deferred.fromCoroutine(
            fetcher().open("GET", f"http://127.0.0.1:{listening.getsockname()[1]}/")
        )
        connection = await accepted(listening)
        with connection:
            connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            fetched = await asking
            connection.setblocking(False)
            for _ in range(40):
                with suppress(BlockingIOError):
                    sent += connection.send(bytes(1 << 20))
                await pause(0.005)
            waiting = fetched._body._waiting
            fetched.abort()
    assert sent < 30 << 20
    assert waiting <= MOST_WAITING + LARGE_READ


async def accepted(listening: socket) -> socket:
    """Accept in a thread: the reactor has to connect meanwhile."""
    connection, _ = await deferToThread(listening.accept)
    connection.settimeout(60)
    return connection


async def answered(reply: bytes, then: float = 0.0) -> Fetched:
    """Ask a server that sends these bytes and, after a while, closes."""
    with closing(create_server(("127.0.0.1", 0))) as listening:
        port = listening.getsockname()[1]
        asking = Deferred.fromCoroutine(fetcher().open("GET", f"http://127.0.0.1:{port}/"))
        connection = await accepted(listening)
        with connection:
            with suppress(OSError):  # hung up on us: that is what some want to see
                connection.sendall(reply)
            await pause(then)
        return await asking


@pytest.mark.parametrize(
    "reply",
    [
        b"", b"nonsense\r\n\r\n", b"HTTP/1.1 abc\r\n\r\n", b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + bytes(40000) + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 20000 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 3000,
    ],
)  # fmt: skip
@pytest_twisted.ensureDeferred
async def test_broken_answers(reply: bytes) -> None:
    with pytest.raises(FetchFailed):
        await answered(reply)


@pytest_twisted.ensureDeferred
async def test_a_head_that_does_not_come_is_not_waited_for() -> None:
    began = time.monotonic()
    with closing(create_server(("127.0.0.1", 0))) as silent, pytest.raises(FetchFailed) as caught:
        slow = Fetcher(reactor, rules(), FetchLimits(connect=0.2, idle=0.2))
        await slow.open("GET", f"http://127.0.0.1:{silent.getsockname()[1]}/")
    assert time.monotonic() - began < 20
    assert "too long" in caught.value.message


@pytest_twisted.ensureDeferred
async def test_data_that_does_not_come_is_not_waited_for() -> None:
    fetched = await answered(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab", 0.02)
    with pytest.raises(FetchFailed):
        await whole(fetched)
    with closing(create_server(("127.0.0.1", 0))) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/"
        hasty = Fetcher(reactor, rules(), HASTY)
        asking = Deferred.fromCoroutine(hasty.open("GET", url))
        connection = await accepted(listening)
        with connection:
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab")
            with pytest.raises(FetchFailed, match="no more data"):
                await whole(await asking)


@pytest_twisted.ensureDeferred
async def test_whoever_stops_reading_closes_the_connection(server: Origin) -> None:
    url = server.put("/x", bytes(32 << 20))

    async def first(blocks: AsyncIterator[bytes]) -> bytes:
        return await anext(blocks)

    fetched = await fetcher().open("GET", url)
    async with aclosing(fetched.blocks()) as blocks:
        assert await first(blocks)
    forgotten = await fetcher().open("GET", url)
    stream = forgotten.blocks()
    assert await first(stream)
    del stream, forgotten, blocks, fetched
    gc.collect()
    await pause(0.1)  # the reactor would complain of what is left at the end


@pytest_twisted.ensureDeferred
async def test_waiting_may_be_cancelled() -> None:
    with closing(create_server(("127.0.0.1", 0))) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        for turns in range(4):
            asking = Deferred.fromCoroutine(fetcher().open("GET", url))
            await pause(0.01 * turns)
            asking.cancel()
            with pytest.raises(CancelledError):
                await asking


@pytest_twisted.ensureDeferred
async def test_certificates_are_checked(tmp_path: Path) -> None:
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    write_certificate(certificate, key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with origin(context) as server:
        url = server.put("/x", b"data")
        with pytest.raises(FetchFailed, match="TLS"):
            await fetcher().open("GET", url)
        trusting = fetcher().trusting(str(certificate))
        assert await whole(await trusting.open("GET", url)) == b"data"
        careless = fetcher().trusting(None, verify=False)
        assert await whole(await careless.open("GET", url)) == b"data"
        named = url.replace("127.0.0.1", "other.example")
        with pytest.raises(FetchFailed, match="TLS"):  # the right address, another's name
            await fetcher(Names(["127.0.0.1"])).trusting(str(certificate)).open("GET", named)
        assert len(server.asked) == 2


def test_a_file_without_authorities_is_told_at_once(tmp_path: Path) -> None:
    for path in (tmp_path / "missing", tmp_path / "empty"):
        with pytest.raises(ValueError, match=str(path)):
            fetcher().trusting(str(path))
        (tmp_path / "empty").touch()


@pytest_twisted.ensureDeferred
async def test_the_system_is_asked_for_names() -> None:
    with pytest.raises(Refused):
        await Fetcher(reactor, UrlFilter()).check("http://localhost/")
    await Fetcher(reactor, UrlFilter(exempt=(HERE, ip_network("::1/128")))).check(
        "http://localhost/"
    )


@pytest_twisted.ensureDeferred
async def test_addresses_of_this_host_are_refused_as_they_are_at_the_time() -> None:
    own = sorted(map(str, cast(frozenset[Address], own_addresses())))
    assert "127.0.0.1" in own
    for address in own:
        url = f"http://[{address}]/" if ":" in address else f"http://{address}/"
        with pytest.raises(Refused):
            await Fetcher(reactor, UrlFilter()).check(url)
        await Fetcher(reactor, UrlFilter(exempt=(ip_network(address),))).check(url)
    moving: set[Address] = set()
    fetcher = Fetcher(reactor, UrlFilter(), own=lambda: moving)
    await fetcher.check("http://8.8.8.8/")
    moving.add(IPv4Address("8.8.8.8"))
    for one in (fetcher, fetcher.trusting(None)):
        with pytest.raises(Refused):
            await one.check("http://8.8.8.8/")


def test_without_netlink_the_kernel_says_which_addresses_are_ours() -> None:
    if Path("/proc/sys/net/ipv4/ip_nonlocal_bind").read_text().strip() == "1":
        pytest.skip("this kernel lets everybody listen on any address")
    bindable = BindableAddresses()
    for address in cast(frozenset[Address], own_addresses()):
        if not address.is_link_local:
            assert address in bindable
    for text in ("8.8.8.8", "2606:4700::1111"):
        assert ip_address(text) not in bindable


@pytest_twisted.ensureDeferred
async def test_a_kept_connection_is_guarded_for_each_answer() -> None:
    """The head of each answer, and what follows it, have their limits of bytes."""
    limits = FetchLimits(connect=60, idle=60, head=32 << 10, answer=100_000)
    client = ConfiguredClient(reactor, tls_policy(), limits, 1)
    whole_answer = b"HTTP/1.1 200 OK\r\nContent-Length: 90000\r\n\r\n" + bytes(90_000)
    long_head = b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 20_000 + b"\r\n"
    overhead = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 50_000
    with closing(create_server(("127.0.0.1", 0))) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/"

        async def exchange(connection: Any, reply: bytes) -> bytes:
            asking = Deferred.fromCoroutine(client.send("GET", url, {}))
            connection = connection or await accepted(listening)
            connections.append(connection)
            with suppress(OSError):
                connection.sendall(reply)
            return await (await asking).read(90_000)

        connections: list[Any] = []
        for _ in range(2):
            assert (
                len(await exchange(connections[0] if connections else None, whole_answer)) == 90_000
            )
        with pytest.raises(FetchFailed):
            await exchange(connections[0], long_head)
        with pytest.raises(FetchFailed):
            await exchange(None, overhead)
        for one in connections:
            one.close()
        await client.close()


@pytest_twisted.ensureDeferred
async def test_an_answer_is_collected_up_to_a_limit(server: Origin) -> None:
    url = server.put("/x", b"12345")
    assert await (await fetcher().open("GET", url)).read(5) == b"12345"
    with pytest.raises(FetchFailed, match="more than 4 bytes"):
        await (await fetcher().open("GET", url)).read(4)
