"""Validates tokens: asks Keystone once for each, and remembers its answer for a while."""

import hashlib
import re
import time
from collections.abc import Callable, Mapping

import attrs
from twisted.internet.defer import Deferred

from imgservice.auth.cache import Cache
from imgservice.auth.keystone.fair_queue import FairQueue
from imgservice.auth.keystone.identity import Identity, read_identity
from imgservice.auth.keystone.own_token_client import OwnTokenClient
from imgservice.concurrency.reactor import Clock
from imgservice.concurrency.single_flight import SingleFlight
from imgservice.keystone.client import KeystoneClient, Reply
from imgservice.keystone.credentials import OwnToken
from imgservice.keystone.errors import CredentialsRefused, KeystoneError, KeystoneUnreachable

LONGEST_TOKEN = 4096
MOST_WAITING = 5000
INVALID_TIME = 5.0
"""Seconds for which a token that Keystone does not know is refused without asking again."""
MOST_INVALID = 10_000
_TOKEN = re.compile(rb"[\x21-\x7e]{1,%d}" % LONGEST_TOKEN)
TROUBLE, WHAT = "tokens", "Validation of tokens by Keystone (auth.keystone)"
"""What is reported when Keystone answers, but not as it should."""
_PATH = "/auth/tokens?nocatalog=1"
_PATH_EXPIRED = f"{_PATH}&allow_expired=1"
_ACCESS_RULES = {"OpenStack-Identity-Access-Rules": "1"}
"""Without it, Keystone does not validate tokens that are restricted to some requests."""


@attrs.frozen(kw_only=True)
class TokenRules:
    """Times are in seconds."""

    timeout: float = 20.0
    """For an answer about a token, with the time in the queue."""
    cache_time: float = 300.0
    cache_size: int = 10_000
    connections: int = 8
    """Most requests to Keystone at the same time."""


class KeystoneTokens:
    """Tells whose a token is."""

    def __init__(
        self,
        reactor: Clock,
        client: KeystoneClient,
        own: OwnToken,
        rules: TokenRules,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._reactor = reactor
        self.client = client
        self._own = own
        self._validator = OwnTokenClient(reactor, client, own)
        self._rules = rules
        self._clock = clock
        self._known: Cache[Identity] = Cache(rules.cache_size)
        self._invalid: Cache[bool] = Cache(MOST_INVALID)
        self._lookups: SingleFlight[bytes, Identity | None] = SingleFlight()
        self._queue = FairQueue(reactor, rules.connections, MOST_WAITING)

    async def identify(
        self, token: bytes, source: str, allow_expired: bool = False
    ) -> Identity | None:
        """Return whose the token is; None if it is not valid, or not any more.

        `KeystoneError` if that cannot be found out. Requests from one `source` wait for each other
        rather than let those from others wait.
        """
        # The token itself is kept nowhere.
        key = hashlib.sha256(token).digest() + (b"expired" if allow_expired else b"")
        identity = self._known.get(key)
        if identity is not None:
            return identity if allow_expired or identity.expires > self._clock() else None
        if not _TOKEN.fullmatch(token) or self._invalid.get(key):
            return None
        return await self._lookups.share(
            key, lambda: self._find_out(key, token.decode(), source, allow_expired)
        )

    async def check(self) -> None:
        """Raise `KeystoneError` unless Keystone accepts our credentials and validates tokens."""
        try:
            own = await self._own.get()
            headers = {"X-Auth-Token": own, **_about(own)}
            reply = await self.client.ask("GET", _PATH, headers, self._rules.timeout)
            if reply.status == 401:  # it was an old one
                self._own.reject(own)
            if reply.status != 200:
                raise _no_right(reply.status)
        except KeystoneError as error:
            self._fails(error)
            raise
        self.client.troubles.clear(TROUBLE)

    def close(self) -> Deferred[None]:
        return self.client.close()

    async def _find_out(
        self, key: bytes, token: str, source: str, allow_expired: bool
    ) -> Identity | None:
        deadline = self._reactor.seconds() + self._rules.timeout
        try:
            async with self._queue.turn(source, self._rules.timeout / 2):
                left = deadline - self._reactor.seconds()
                identity = await self._validate(token, allow_expired, left)
        except KeystoneError as error:
            self._fails(error)
            raise
        self.client.troubles.clear(TROUBLE)
        self._remember(key, identity, allow_expired)
        return identity

    def _fails(self, error: KeystoneError) -> None:
        if not isinstance(error, KeystoneUnreachable):  # which the client has reported
            self.client.troubles.report(TROUBLE, WHAT, error.reason)

    async def _validate(self, token: str, allow_expired: bool, timeout: float) -> Identity | None:
        path = _PATH_EXPIRED if allow_expired else _PATH
        reply = await self._validator.get(path, timeout, _about(token))
        if reply is None:
            raise CredentialsRefused("Keystone rejects the token that it has just issued for us")
        return self._judge(reply, token, allow_expired)

    def _judge(self, reply: Reply, token: str, allow_expired: bool) -> Identity | None:
        if reply.status == 404 and isinstance(reply.document.get("error"), dict):
            return None
        if reply.status != 200:
            raise _no_right(reply.status)
        if reply.token != token:
            raise KeystoneError("Keystone describes another token than the one in question")
        identity = read_identity(reply.document)
        if identity is None or (identity.expires <= self._clock() and not allow_expired):
            return None
        return identity

    def _remember(self, key: bytes, identity: Identity | None, allow_expired: bool) -> None:
        seconds = self._rules.cache_time
        if identity is None:
            self._invalid.put(key, True, min(seconds, INVALID_TIME))
        elif allow_expired:
            self._known.put(key, identity, seconds)
        else:
            self._known.put(key, identity, min(seconds, identity.expires - self._clock()))


def _about(token: str) -> Mapping[str, str]:
    return {"X-Subject-Token": token, **_ACCESS_RULES}


def _no_right(status: int) -> CredentialsRefused:
    return CredentialsRefused(
        f"we may not validate tokens (status {status}); does our user have the role service or"
        " admin?"
    )
