"""Sends requests to Keystone, within limits of time and size, and to the next URL if one fails."""

from collections.abc import Mapping, Sequence

import attrs
import orjson
from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as Overdue

from imgservice.concurrency.reactor import Reactor, twisted_clock
from imgservice.keystone.documents import Document
from imgservice.keystone.errors import KeystoneError, KeystoneUnreachable
from imgservice.net.client import ConfiguredClient
from imgservice.net.errors import FetchFailed
from imgservice.net.limits import FetchLimits
from imgservice.net.tls import TlsPolicy
from imgservice.troubles import Troubles

MOST_BYTES = 1 << 20
"""Of the body of an answer."""
LAST_RESORT_TIME = 30.0
"""Seconds for which a URL that failed is tried after all others."""
_TRANSIENT = (408, 425, 429)
TROUBLE = "keystone"
"""The key of the trouble that no URL answers."""


@attrs.frozen
class Reply:
    status: int
    token: str | None
    """The header X-Subject-Token."""
    document: Document = attrs.field(repr=False)


class KeystoneClient:
    """Opens no connection before it is asked something."""

    def __init__(
        self,
        reactor: Reactor,
        urls: Sequence[str],
        tls: TlsPolicy,
        connections: int,
        timeout: float,
        troubles: Troubles | None = None,
    ) -> None:
        """Keep so many connections for later requests; wait `timeout` seconds for each answer."""
        self._reactor = reactor
        self._urls = [_Url(url) for url in urls]
        self.troubles = troubles or Troubles()
        self.what = f"Keystone at {', '.join(urls)}"
        limits = FetchLimits(connect=timeout, idle=timeout, answer=MOST_BYTES, min_rate=0)
        self._client = ConfiguredClient(reactor, tls, limits, connections)

    def close(self) -> Deferred[None]:
        """Close the connections that are kept."""
        return self._client.close()

    async def ask(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        timeout: float,
        document: Document | None = None,
    ) -> Reply:
        """Return the answer, a JSON object, with whatever status Keystone gives.

        `path` is what comes after /v3. `KeystoneUnreachable` when no URL answers within `timeout`
        seconds.
        """
        now = self._reactor.seconds()
        order = sorted(self._urls, key=lambda url: url.failed_until(now))
        failed: dict[str, str] = {}
        for position, url in enumerate(order):
            share = (now + timeout - self._reactor.seconds()) / (len(order) - position)
            sending = Deferred.fromCoroutine(self._send(method, url.url + path, headers, document))
            reply = await self._answered(url, sending, share, failed)
            if reply is not None:
                self._report_some(url, failed)
                return reply
        raise self._unreachable(failed)

    async def _answered(
        self, url: "_Url", sending: Deferred[Reply], timeout: float, failed: dict[str, str]
    ) -> Reply | None:
        """Return the answer of a URL; None, and note why in `failed`, if there is none."""
        try:
            reply = await sending.addTimeout(max(timeout, 0.0), twisted_clock(self._reactor))
        except Exception as error:  # whatever Keystone, or something in front of it, sends
            failed[url.url] = _reason(error)
            url.fails(self._reactor.seconds())
            return None
        url.works()
        return reply

    async def probe(self, timeout: float) -> None:
        """Raise `KeystoneUnreachable` unless it answers, whatever the answer is."""
        await self.ask("GET", "", {}, timeout)

    def _report_some(self, answering: "_Url", failed: Mapping[str, str]) -> None:
        self.troubles.clear(TROUBLE)
        self.troubles.clear(f"{TROUBLE} {answering.url}")
        for url, reason in failed.items():
            self.troubles.report(f"{TROUBLE} {url}", f"Keystone at {url}", reason, False)

    def _unreachable(self, failed: Mapping[str, str]) -> KeystoneError:
        several = len(self._urls) > 1
        why = ", ".join(f"{url} {one}" if several else one for url, one in failed.items())
        self.troubles.report(TROUBLE, self.what, why)
        return KeystoneUnreachable(", ".join(f"{url}: {one}" for url, one in failed.items()))

    async def _send(
        self, method: str, url: str, headers: Mapping[str, str], document: Document | None
    ) -> Reply:
        headers = {"accept": "application/json", **headers}
        body = None
        if document is not None:
            headers["content-type"] = "application/json"
            body = orjson.dumps(document)
        answer = await self._client.send(method, url, headers, body)
        data = await answer.read(MOST_BYTES)
        return _usable(answer.status, answer.headers.get("x-subject-token"), data)


def _usable(status: int, token: str | None, data: bytes) -> Reply:
    """Return an answer of Keystone itself; `KeystoneError` for any other."""
    if status // 100 not in (2, 4) or status in _TRANSIENT:
        raise KeystoneError(f"it answers with the status {status}")
    try:
        document = orjson.loads(data)
    except orjson.JSONDecodeError:
        document = None
    if not isinstance(document, dict):
        raise KeystoneError("it gives an answer that is not Keystone's")
    return Reply(status, token, document)


def _reason(error: Exception) -> str:
    """Say what went wrong without repeating anything that was sent or received."""
    if isinstance(error, KeystoneError):
        return error.reason
    if isinstance(error, FetchFailed):
        return f"it {error.reason}"
    if isinstance(error, Overdue):
        return "it takes too long"
    return f"it gives no usable answer ({type(error).__name__})"


class _Url:
    """One URL of Keystone, and whether it failed recently."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._failed_until = 0.0

    def failed_until(self, now: float) -> float:
        return self._failed_until if self._failed_until > now else 0.0

    def fails(self, now: float) -> None:
        self._failed_until = now + LAST_RESORT_TIME

    def works(self) -> None:
        self._failed_until = 0.0
