"""The validation of tokens, with a real Keystone and with servers that are none."""

import gzip
import json
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any, cast

import pytest
import pytest_twisted
import yaml
from twisted.internet import reactor as installed_reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.web.client import BrowserLikePolicyForHTTPS

from imgservice import __version__
from imgservice.auth.keystone.identity import Identity
from imgservice.auth.keystone.tokens import KeystoneTokens
from imgservice.config.loader import parse
from imgservice.domain.units import Secret
from imgservice.keystone.client import KeystoneClient
from imgservice.keystone.credentials import IssuedToken, password
from imgservice.keystone.errors import CredentialsRefused, KeystoneError
from imgservice.wiring.keystone import make_keystone_tokens
from tests.db.numbers import until
from tests.keystone import Keystone
from tests.process.certificates import write_certificate
from tests.real.service import free_port
from tests.scripted_keystone import (
    EXPIRES,
    OWN_TOKEN,
    Asked,
    Scripted,
    right,
    scripted,
    token_document,
)

reactor: Any = installed_reactor
TIMEOUT = 1.5
"""Seconds for which a Keystone that does not answer is waited for."""
LONG = 60.0
"""Seconds in which everything happens, however busy the machine is."""


@asynccontextmanager
async def tokens_of(auth: Mapping[str, Any], **options: Any) -> AsyncIterator[KeystoneTokens]:
    """Make what a service with this configuration would ask."""
    keystone = {**auth["keystone"], **options}
    text = yaml.safe_dump({"auth": {**auth, "keystone": keystone}})
    made = make_keystone_tokens(parse(text, "test.yaml"), reactor)
    try:
        yield made
    finally:
        await made.close()


async def whose(tokens: KeystoneTokens, token: str, **more: Any) -> Identity | None:
    return await tokens.identify(token.encode(), "here", **more)


def started_asking(tokens: KeystoneTokens, token: str, source: str = "here") -> Deferred[Any]:
    return Deferred.fromCoroutine(tokens.identify(token.encode(), source))


async def whose_at_last(tokens: KeystoneTokens, token: str) -> Identity | None:
    """Ask until there is an answer: on a busy machine some may come too late."""
    deadline = time.monotonic() + LONG
    while time.monotonic() < deadline:
        with suppress(KeystoneError):
            return await whose(tokens, token)
    raise AssertionError("there is no answer")


@pytest.fixture
def server() -> Iterator[Scripted]:
    with scripted() as one:
        yield one


# -- our own credentials, with a real Keystone ----------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_password(keystone: Keystone) -> None:
    async with tokens_of(keystone.auth()) as tokens:
        await tokens.check()
        identity = await whose(tokens, keystone.token("demo", "demo"))
    assert identity is not None
    context = identity.context
    assert (context.user, context.project) == (keystone.users["demo"], keystone.projects["demo"])
    assert context.roles == {"member", "reader"}
    assert (context.user_domain, context.project_domain) == ("default", "default")


@pytest_twisted.ensureDeferred
async def test_domains_by_id_and_url_without_version(keystone: Keystone) -> None:
    url = keystone.url.removesuffix("/v3") + "/"
    by_id = {"user_domain_id": "default", "project_domain_id": "default"}
    async with tokens_of(keystone.auth(), url=url, user_domain="no", **by_id) as tokens:
        await tokens.check()


@pytest_twisted.ensureDeferred
async def test_scope_of_the_system(keystone: Keystone) -> None:
    async with tokens_of(keystone.auth(), username="admin", project=None) as tokens:
        await tokens.check()
        identity = await whose(tokens, keystone.token("admin", system=True))
    assert identity is not None
    assert (identity.context.project, identity.context.system_scope) == (None, "all")


@pytest_twisted.ensureDeferred
async def test_application_credential(keystone: Keystone) -> None:
    own = keystone.application_credential("service-only", "service")
    credential = {
        "application_credential_id": own.id,
        "application_credential_secret": own.secret,
    }
    auth = {"mode": "keystone", "keystone": {"url": keystone.url, **credential}}
    async with tokens_of(auth) as tokens:
        assert await whose(tokens, keystone.token("demo", "demo"))


@pytest_twisted.ensureDeferred
async def test_token_in_a_file(keystone: Keystone, tmp_path: Path) -> None:
    """Another program renews it; we use the new one when we see it."""
    file, first = tmp_path / "token", keystone.token("service-only", "service")
    file.write_text(first + "\n")
    auth = {"mode": "keystone", "keystone": {"url": keystone.url, "token_file": str(file)}}
    async with tokens_of(auth) as tokens:
        assert await whose(tokens, keystone.token("demo", "demo"))
        keystone.revoke(first)
        await until_refused(keystone, tokens)
        file.write_text(keystone.token("service-only", "service"))
        await deferLater(reactor, 1.1)
        assert await whose(tokens, keystone.token("demo", "demo"))


async def until_refused(keystone: Keystone, tokens: KeystoneTokens) -> None:
    """Wait: Keystone itself takes a revoked token for another second."""
    deadline = time.monotonic() + LONG
    while time.monotonic() < deadline:
        try:
            assert await whose(tokens, keystone.token("demo", "demo"))
        except CredentialsRefused:
            return
        await deferLater(reactor, 0.2)
    raise AssertionError("the revoked token of our own still works")


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    "wrong",
    [
        {"password": "another"},
        {"username": "nobody"},
        {"project": "nothing"},
        {"user_domain": "Elsewhere"},
        {"username": "alt"},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
async def test_credentials_that_do_not_work(keystone: Keystone, wrong: dict[str, str]) -> None:
    async with tokens_of(keystone.auth(), **wrong) as tokens:
        with pytest.raises(CredentialsRefused) as caught:
            await tokens.check()
        with pytest.raises(KeystoneError):
            await whose(tokens, keystone.token("demo", "demo"))
    assert "another" not in caught.value.reason + caught.value.message


@pytest_twisted.ensureDeferred
async def test_who_has_no_role_may_not_ask(keystone: Keystone) -> None:
    async with tokens_of(keystone.auth(), username="demo", project="demo") as tokens:
        with pytest.raises(KeystoneError) as caught:
            await whose(tokens, keystone.token("alt", "alt"))
    assert "status 403" in caught.value.reason
    assert "role service" in caught.value.reason


@pytest_twisted.ensureDeferred
async def test_own_token_is_renewed_before_its_end(server: Scripted) -> None:
    """Nobody waits for it as long as the old one is good."""
    now = datetime.fromisoformat(EXPIRES).timestamp() - 3600
    client = KeystoneClient(reactor, [server.url], BrowserLikePolicyForHTTPS(), 1, 5)
    own = IssuedToken(client, password("u", Secret("p"), {}, {}), 5, lambda: now, lambda: now)
    for later, issued in ((0, 1), (3000, 1), (500, 2), (90, 3)):
        now += later
        assert await own.get() == OWN_TOKEN
        await until_issued(server, issued)
        await deferLater(reactor, 0.1)
        assert (later, server.issued) == (later, issued)
    now += 8
    server.issuing = False
    for _ in range(5):
        with pytest.raises(KeystoneError):
            await own.get()
    assert server.issued == 4


async def until_issued(server: Scripted, count: int) -> None:
    await until(lambda: server.issued >= count)


@pytest_twisted.ensureDeferred
async def test_own_token_does_not_come(server: Scripted) -> None:
    server.issue_after.clear()
    async with tokens_of(server.auth(), timeout=TIMEOUT) as tokens:
        begin = time.monotonic()
        asking = [started_asking(tokens, f"good{number}") for number in range(20)]
        for one in asking:
            with pytest.raises(KeystoneError):
                await one
        assert time.monotonic() - begin < 15 * TIMEOUT, "where one after the other takes 20"
        server.issue_after.set()
        assert await whose_at_last(tokens, "good")


@pytest_twisted.ensureDeferred
async def test_own_token_is_revoked(keystone: Keystone) -> None:
    """It is replaced, and callers do not notice."""
    subject = keystone.token("demo", "demo")
    async with tokens_of(keystone.auth(), cache_time=0) as tokens:
        assert await whose(tokens, subject)
        own = await tokens._own.get()
        keystone.revoke(own)
        deadline = time.monotonic() + LONG
        while await tokens._own.get() == own:
            assert time.monotonic() < deadline
            assert await whose(tokens, subject)
            await deferLater(reactor, 0.2)


# -- what is remembered ---------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_known_tokens_are_not_asked_about(server: Scripted) -> None:
    async with tokens_of(server.auth()) as tokens:
        first = await whose(tokens, "good")
        for _ in range(5):
            assert await whose(tokens, "good") is first  # the same object: nothing is built again
            assert await whose(tokens, "bad") is None
        assert server.asked == 2
        assert server.issued == 1


@pytest_twisted.ensureDeferred
async def test_no_memory(server: Scripted) -> None:
    async with tokens_of(server.auth(), cache_time=0) as tokens:
        for _ in range(3):
            assert await whose(tokens, "good")
            assert await whose(tokens, "bad") is None
        assert server.asked == 6


@pytest_twisted.ensureDeferred
async def test_bounded_memory(server: Scripted) -> None:
    async with tokens_of(server.auth(), cache_size=2) as tokens:
        for token in ("a", "b", "c", "b", "c", "a"):
            assert await whose(tokens, token)
        assert server.asked == 4


@pytest_twisted.ensureDeferred
async def test_the_same_token_is_asked_about_once(server: Scripted) -> None:
    def slowly(asked: Asked) -> None:
        server.ending.wait(0.3)
        right(asked)

    server.script = slowly
    async with tokens_of(server.auth()) as tokens:
        await gatherResults([started_asking(tokens, "good") for _ in range(100)])
        assert (server.asked, server.issued) == (1, 1)


@pytest_twisted.ensureDeferred
async def test_keystone_is_told_who_asks(server: Scripted) -> None:
    agents: list[str] = []

    def listening(asked: Asked) -> None:
        agents.append(asked.headers["User-Agent"])
        right(asked)

    server.script = listening
    async with tokens_of(server.auth()) as tokens:
        assert await whose(tokens, "good")
    assert agents == [f"imgservice/{__version__}"]


@pytest_twisted.ensureDeferred
async def test_so_many_at_a_time(server: Scripted) -> None:
    def slowly(asked: Asked) -> None:
        server.ending.wait(0.02)
        right(asked)

    server.script = slowly
    async with tokens_of(server.auth(), connections=3) as tokens:
        await gatherResults([started_asking(tokens, f"good{n}") for n in range(60)])
        assert (server.asked, server.busiest) == (60, 3)


@pytest_twisted.ensureDeferred
async def test_who_sends_many_does_not_delay_others(server: Scripted) -> None:
    """Its requests are queued, and those of other callers are served in between."""

    def slowly(asked: Asked) -> None:
        server.ending.wait(0.01)
        right(asked)

    server.script = slowly
    async with tokens_of(server.auth(), connections=1) as tokens:
        many = [started_asking(tokens, f"bad{n}", "flooder") for n in range(200)]
        await deferLater(reactor, 0.1)
        assert await whose(tokens, "good")
        assert server.asked < 100
        await gatherResults(many, consumeErrors=True)


@pytest_twisted.ensureDeferred
async def test_long_tokens_are_not_asked_about(server: Scripted) -> None:
    async with tokens_of(server.auth()) as tokens:
        for token in ("x" * 4097, "", "a b", "a\nb", "é", "\x00"):
            assert await whose(tokens, token) is None
        assert server.asked == 0
        assert await whose(tokens, "x" * 4096)


@pytest_twisted.ensureDeferred
async def test_refused_credentials_are_not_tried_in_a_loop(server: Scripted) -> None:
    """Keystone may lock the account after some failures."""
    server.issuing = False
    async with tokens_of(server.auth()) as tokens:
        for number in range(200):
            with pytest.raises(CredentialsRefused):
                await whose(tokens, f"token{number}")
    assert server.issued < 10


# -- a Keystone that is none ----------------------------------------------------------------------


def answer(status: int, body: bytes, **headers: str) -> Callable[[Asked], None]:
    return lambda asked: asked.send(status, body, **headers)


def document(**more: Any) -> Callable[[Asked], None]:
    """Answer rightly but for some parts of the token."""
    return lambda asked: asked.answer(
        200, token_document(**more), **{"X-Subject-Token": asked.subject}
    )


def plain_document(asked: Asked) -> bytes:
    return json.dumps(token_document()).encode()


def too_short(asked: Asked) -> None:
    body = plain_document(asked)
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body) + 10}\r\nX-Subject-Token: good\r\n\r\n"
    asked.raw(head.encode() + body)


def cut_document(asked: Asked) -> None:
    body = plain_document(asked)[:-10]
    asked.send(200, body, **{"X-Subject-Token": asked.subject})


def length_that_is_too_small(asked: Asked) -> None:
    body = plain_document(asked)
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body) - 10}\r\nX-Subject-Token: good\r\n\r\n"
    asked.raw(head.encode() + body)


def drip(asked: Asked) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"
    asked.raw(head, dripping(asked, b" "))


def dripping_head(asked: Asked) -> None:
    asked.raw(b"HTTP/1.1 200 OK\r\n", dripping(asked, b"X: y\r\n"))


def dripping(asked: Asked, piece: bytes) -> Iterator[bytes]:
    while not asked.server.scripted.ending.wait(0.05):
        yield piece


def endless(piece: bytes, count: int) -> Iterator[bytes]:
    for _ in range(count):
        yield piece


def huge(asked: Asked) -> None:
    """Send 300 MB of JSON."""
    head = b'HTTP/1.1 200 OK\r\nContent-Length: 300000000\r\n\r\n{"token": "'
    asked.raw(head, endless(b"x" * 100_000, 3000))


def huge_head(asked: Asked) -> None:
    asked.raw(b"HTTP/1.1 200 OK\r\n", endless(b"X-Header: y\r\n" * 1000, 3000))


def huge_line(asked: Asked) -> None:
    asked.raw(b"HTTP/1.1 200 OK\r\nX-Header: ", endless(b"y" * 100_000, 3000))


PACKED = gzip.compress(b'{"token": "' + b"x" * 50_000_000, 1)


def huge_when_unpacked(asked: Asked) -> None:
    asked.send(200, PACKED, **{"Content-Encoding": "gzip"})


def endless_chunks(asked: Asked) -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    asked.raw(head, endless(b"10000\r\n" + b" " * 65536 + b"\r\n", 3000))


def silent(asked: Asked) -> None:
    asked.close_connection = True
    asked.server.scripted.ending.wait(30)


def gone(asked: Asked) -> None:
    asked.close_connection = True


def redirect(asked: Asked) -> None:
    """Send on to a place that would say yes."""
    asked.send(302, b"", Location=asked.server.scripted.url + "/auth/tokens/elsewhere")


def another_token(asked: Asked) -> None:
    """Answer as a cache in between might that mixes up those who ask."""
    asked.answer(200, token_document(), **{"X-Subject-Token": "another"})


NONSENSE: Mapping[str, Callable[[Asked], None]] = {
    "HTML": answer(200, b"<html>It works!</html>", **{"Content-Type": "text/html"}),
    "HTML 404": answer(404, b"<html>not here</html>"),
    "JSON 404 of something else": answer(404, b'{"detail": "not here"}'),
    "nothing": answer(200, b""),
    "no content": answer(204, b""),
    "a list": answer(200, b"[]"),
    "null": answer(200, b"null"),
    "an empty object": answer(200, b"{}"),
    "no UTF-8": answer(200, b'{"token": "\xff"}'),
    "deep JSON": answer(200, b"[" * 100_000),
    "500": answer(500, b'{"error": {"code": 500}}'),
    "502": answer(502, b"bad gateway"),
    "503": answer(503, b""),
    "429": answer(429, b'{"error": {"code": 429}}'),
    "400": answer(400, b'{"error": {"code": 400}}'),
    "403": answer(403, b'{"error": {"code": 403}}'),
    "201": answer(201, json.dumps(token_document()).encode()),
    "300": answer(300, b'{"versions": {}}'),
    "redirect": redirect,
    "another token": another_token,
    "no subject": lambda asked: asked.answer(200, token_document()),
    "no user": document(user=None),
    "roles are a string": document(roles="admin"),
    "expires some time": document(expires_at="some time"),
    "cut document": cut_document,
    "too short": too_short,
    "length that is too small": length_that_is_too_small,
    "drip": drip,
    "dripping head": dripping_head,
    "huge": huge,
    "huge head": huge_head,
    "huge line": huge_line,
    "huge when unpacked": huge_when_unpacked,
    "endless chunks": endless_chunks,
    "silent": silent,
    "gone": gone,
    "no HTTP": lambda asked: asked.raw(b"220 mail.example ESMTP\r\n"),
    "binary": lambda asked: asked.raw(bytes(range(256)) * 10),
    "bad status": lambda asked: asked.raw(b"HTTP/1.1 abc OK\r\n\r\n"),
    "bad length": lambda asked: asked.raw(b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n{}"),
    "two lengths": lambda asked: asked.raw(
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}}"
    ),
    "bad chunk": lambda asked: asked.raw(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"
    ),
    "bad gzip": answer(200, b"no gzip", **{"Content-Encoding": "gzip"}),
}


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("name", NONSENSE)
async def test_nonsense_is_nobody(server: Scripted, name: str) -> None:
    """Whatever comes, in time: no identity; and when Keystone is itself again, all is well."""
    async with tokens_of(server.auth(), timeout=TIMEOUT, cache_time=60) as tokens:
        server.script = NONSENSE[name]
        begin, memory = time.monotonic(), resident()
        with pytest.raises(KeystoneError):
            await whose(tokens, "good")
        assert time.monotonic() - begin < TIMEOUT + LONG
        assert resident() - memory < 150 << 10
        server.script = right
        assert await whose_at_last(tokens, "good")
        assert await whose_at_last(tokens, "bad") is None


def resident() -> int:
    """Return our memory in KiB."""
    [line] = [
        line for line in Path("/proc/self/status").read_text().splitlines() if "VmRSS" in line
    ]
    return int(line.split()[1])


@pytest_twisted.ensureDeferred
async def test_expired_in_spite_of_keystone(server: Scripted) -> None:
    server.script = document(expires_at="2020-01-01T00:00:00.000000Z")
    async with tokens_of(server.auth()) as tokens:
        assert await whose(tokens, "good") is None
        identity = await whose(tokens, "good", allow_expired=True)
        assert identity is not None
        assert await whose(tokens, "good") is None


@pytest_twisted.ensureDeferred
async def test_own_token_is_nowhere_else(server: Scripted) -> None:
    """It is sent as ours, never as the one that is asked about, or the other way round."""
    seen: list[tuple[str, str]] = []

    def look(asked: Asked) -> None:
        seen.append((asked.headers["X-Auth-Token"], asked.subject))
        right(asked)

    server.script = look
    async with tokens_of(server.auth()) as tokens:
        await whose(tokens, "good")
    assert seen == [(OWN_TOKEN, "good")]


# -- several of them ------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_failover(server: Scripted) -> None:
    with scripted() as other:
        urls = [server.url, other.url]
        async with tokens_of(server.auth(), url=urls, timeout=4 * TIMEOUT, cache_time=0) as tokens:
            assert await whose(tokens, "good")
            assert (server.asked, other.asked) == (1, 0)
            server.script = silent
            begin = time.monotonic()
            assert await whose(tokens, "good")
            assert time.monotonic() - begin < 4 * TIMEOUT
            for _ in range(10):
                assert await whose(tokens, "good")
            assert (server.asked, other.asked) == (2, 11)  # the silent one is not asked first again
            server.script, other.script = right, gone
            assert await whose(tokens, "good")
            other.script = right
            assert await whose(tokens, "bad") is None


@pytest_twisted.ensureDeferred
async def test_failover_from_nowhere(server: Scripted) -> None:
    nowhere = f"http://127.0.0.1:{free_port()}/v3"
    unknown = "http://keystone.invalid/v3"
    async with tokens_of(server.auth(), url=[nowhere, unknown, server.url]) as tokens:
        assert await whose(tokens, "good")
    async with tokens_of(server.auth(), url=[nowhere, unknown], timeout=TIMEOUT) as tokens:
        with pytest.raises(KeystoneError):
            await whose(tokens, "good")


# -- TLS ------------------------------------------------------------------------------------------


def server_context(folder: Path) -> ssl.SSLContext:
    write_certificate(folder / "certificate.pem", folder / "key.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "certificate.pem", folder / "key.pem")
    return context


@pytest_twisted.ensureDeferred
async def test_tls(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    server_context(tmp_path / "other")
    with scripted(server_context(tmp_path)) as server:
        for ca_file, reason in (
            (tmp_path / "other" / "certificate.pem", "TLS"),
            (None, "TLS"),
        ):
            options = {"ca_file": str(ca_file)} if ca_file else {}
            async with tokens_of(server.auth(), **options) as tokens:
                with pytest.raises(KeystoneError) as caught:
                    await whose(tokens, "good")
                assert reason in caught.value.reason
        assert (server.asked, server.issued) == (0, 0)
        for right_option in (
            {"ca_file": str(tmp_path / "certificate.pem")},
            {"insecure": True},
        ):
            async with tokens_of(server.auth(), **right_option) as tokens:
                assert await whose(tokens, "good")


@pytest_twisted.ensureDeferred
async def test_tls_for_another_name(tmp_path: Path) -> None:
    with scripted(server_context(tmp_path)) as server:
        url = server.url.replace("127.0.0.1", "localhost")
        options = {"url": url, "ca_file": str(tmp_path / "certificate.pem")}
        async with tokens_of(server.auth(), **options) as tokens:
            with pytest.raises(KeystoneError):
                await whose(tokens, "good")


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("name", ["drip", "huge", "endless chunks"])
async def test_nonsense_over_tls(tmp_path: Path, name: str) -> None:
    with scripted(server_context(tmp_path)) as server:
        server.script = NONSENSE[name]
        options = {"ca_file": str(tmp_path / "certificate.pem"), "timeout": TIMEOUT}
        async with tokens_of(server.auth(), **options) as tokens:
            with pytest.raises(KeystoneError):
                await whose(tokens, "good")
            server.script = right
            assert await whose_at_last(tokens, "good")
        await deferToThread(server.ending.wait, 0.1)


# -- with a real one ------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_real_tokens_are_what_they_were(keystone: Keystone) -> None:
    """A thousand questions in a row about few tokens cost Keystone few answers."""
    subjects = [keystone.token(user, user) for user in ("demo", "alt", "admin")]
    async with tokens_of(keystone.auth()) as tokens:
        first = [await whose(tokens, subject) for subject in subjects]
        for _ in range(300):
            for subject, identity in zip(subjects, first, strict=True):
                assert await whose(tokens, subject) is identity
    users = [cast(Identity, identity).context.user for identity in first]
    assert users == [keystone.users[user] for user in ("demo", "alt", "admin")]
