"""Speaks HTTP to Keystone: bounded in time and size, and to the next URL when one fails."""

from collections.abc import Mapping, Sequence
from http.cookiejar import DefaultCookiePolicy
from typing import Any

import attrs
import orjson
from OpenSSL import SSL
from service_identity import VerificationError
from treq.client import HTTPClient
from treq.cookies import IndexableCookieJar
from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as Overdue
from twisted.internet.error import ConnectError, DNSLookupError
from twisted.internet.protocol import Protocol
from twisted.web.client import Agent, HTTPConnectionPool, ResponseDone
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers

from imgservice import USER_AGENT
from imgservice.auth.keystone.errors import KeystoneError, KeystoneUnreachable
from imgservice.auth.keystone.guard import GuardedEndpoints
from imgservice.troubles import Troubles

MOST_BYTES = 1 << 20
"""Of an answer, head and body together."""
LAST_RESORT_TIME = 30.0
"""Seconds for which a URL that failed is asked only after all others."""
_HEADERS = {"accept": ["application/json"], "user-agent": [USER_AGENT]}
_TRANSIENT = (408, 425, 429)
TROUBLE = "keystone"
"""The key of the trouble that there is when no URL answers."""


@attrs.frozen
class Reply:
    status: int
    token: str | None
    """The header X-Subject-Token."""
    document: Mapping[str, Any] = attrs.field(repr=False)


class KeystoneClient:
    """Opens no connection before it is asked something."""

    def __init__(
        self,
        reactor: Any,
        urls: Sequence[str],
        tls: Any,
        connections: int,
        timeout: float,
        troubles: Troubles | None = None,
    ) -> None:
        """`tls` is an `IPolicyForHTTPS`; so many connections are kept for later requests."""
        self._reactor = reactor
        self._urls = [_Url(url) for url in urls]
        self.troubles = troubles or Troubles()
        self.what = f"Keystone at {', '.join(urls)}"
        self._pool = HTTPConnectionPool(reactor, persistent=True)
        self._pool.maxPersistentPerHost = connections
        endpoints = GuardedEndpoints(reactor, tls, timeout, MOST_BYTES)
        self._keeping = _client(reactor, endpoints, self._pool)
        self._closing = _client(reactor, endpoints, None)

    def close(self) -> Deferred[None]:
        """Close the connections that are kept."""
        closing: Deferred[None] = self._pool.closeCachedConnections()
        return closing

    async def ask(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        timeout: float,
        document: Any = None,
    ) -> Reply:
        """Return the answer, a JSON object, whatever a status of Keystone it has.

        `path` is what comes after /v3. `KeystoneUnreachable` when there is none within `timeout`
        seconds from any URL.
        """
        deadline = self._reactor.seconds() + timeout
        order = sorted(self._urls, key=lambda url: url.failed_until(self._reactor.seconds()))
        failed: dict[str, str] = {}
        for position, url in enumerate(order):
            left = deadline - self._reactor.seconds()
            share = max(left, 0.0) / (len(order) - position)
            asking = Deferred.fromCoroutine(self._ask(url, method, path, headers, document))
            try:
                reply = await asking.addTimeout(share, self._reactor)
            except Exception as error:  # whatever it is that Keystone, or something before it, says
                failed[url.url] = _reason(error)
                url.fails(self._reactor.seconds())
            else:
                url.works()
                self._tell_of_some(url, failed)
                return reply
        raise self._unreachable(failed)

    async def probe(self, timeout: float) -> None:
        """See that it answers, whatever it is; `KeystoneUnreachable` when it does not."""
        await self.ask("GET", "", {}, timeout)

    def _tell_of_some(self, answering: "_Url", failed: Mapping[str, str]) -> None:
        self.troubles.clear(TROUBLE)
        self.troubles.clear(f"{TROUBLE} {answering.url}")
        for url, reason in failed.items():
            self.troubles.report(f"{TROUBLE} {url}", f"Keystone at {url}", reason, False)

    def _unreachable(self, failed: Mapping[str, str]) -> KeystoneError:
        several = len(self._urls) > 1
        why = ", ".join(f"{url} {one}" if several else one for url, one in failed.items())
        self.troubles.report(TROUBLE, self.what, why)
        return KeystoneUnreachable(", ".join(f"{url}: {one}" for url, one in failed.items()))

    async def _ask(
        self, url: "_Url", method: str, path: str, headers: Mapping[str, str], document: Any
    ) -> Reply:
        # A connection that was kept may just be closing: the pool then repeats a GET, but no POST.
        client = self._keeping if document is None else self._closing
        more = {} if document is None else {"json": document}
        response = await client.request(
            method,
            url.url + path,
            headers=Headers({**_HEADERS, **{name: [value] for name, value in headers.items()}}),
            allow_redirects=False,
            unbuffered=True,
            reactor=self._reactor,
            **more,
        )
        body = _Body()
        response.deliverBody(body)
        data = await body.complete
        return _usable(response.code, response.headers.getRawHeaders("x-subject-token"), data)


def _client(
    reactor: Any, endpoints: GuardedEndpoints, pool: HTTPConnectionPool | None
) -> HTTPClient:
    agent = Agent.usingEndpointFactory(reactor, endpoints, pool)
    no_cookies = DefaultCookiePolicy(allowed_domains=[])
    return HTTPClient(agent, IndexableCookieJar(no_cookies))


def _usable(status: int, tokens: Sequence[str] | None, data: bytes) -> Reply:
    """Return what Keystone itself says; `KeystoneError` for anything else."""
    if status // 100 not in (2, 4) or status in _TRANSIENT:
        raise KeystoneError(f"it answers with the status {status}")
    try:
        document = orjson.loads(data)
    except orjson.JSONDecodeError:
        document = None
    if not isinstance(document, dict):
        raise KeystoneError("it gives an answer that is not Keystone's")
    return Reply(status, tokens[0] if tokens else None, document)


def _reason(error: Exception) -> str:
    """Say what went wrong without repeating anything that was sent or received."""
    causes = [reason.value for reason in getattr(error, "reasons", ())] or [error]
    if isinstance(error, KeystoneError):
        return error.reason
    if any(isinstance(cause, SSL.Error | VerificationError) for cause in causes):
        return "there is no TLS connection that can be trusted"
    if isinstance(error, Overdue):
        return "it takes too long"
    if isinstance(error, DNSLookupError):
        return "its host is not known"
    if isinstance(error, ConnectError):
        return f"it cannot be reached ({type(error).__name__})"
    return f"it gives no usable answer ({', '.join(sorted({type(c).__name__ for c in causes}))})"


class _Url:
    """One place where Keystone is, and how it did lately."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._failed_until = 0.0

    def failed_until(self, now: float) -> float:
        return self._failed_until if self._failed_until > now else 0.0

    def fails(self, now: float) -> None:
        self._failed_until = now + LAST_RESORT_TIME

    def works(self) -> None:
        self._failed_until = 0.0


class _Body(Protocol):
    """Collects the body of an answer."""

    def __init__(self) -> None:
        self.complete: Deferred[bytes] = Deferred(lambda _: self._cut())
        self._pieces: list[bytes] = []
        self._left = MOST_BYTES  # unpacked, if it comes packed

    def dataReceived(self, data: bytes) -> None:
        self._left -= len(data)
        if self._left < 0:
            self._cut()
        else:
            self._pieces.append(data)

    def _cut(self) -> None:
        if self.transport is not None:
            self.transport.loseConnection()  # type: ignore[misc]

    def connectionLost(self, reason: Any = None) -> None:
        if self.complete.called:
            return
        if self._left >= 0 and reason.check(ResponseDone, PotentialDataLoss):
            self.complete.callback(b"".join(self._pieces))
        else:
            self.complete.errback(
                KeystoneError("it gives an answer that is too long or breaks off")
            )
