"""Whose a token is: asked of Keystone once, and then remembered for a while."""

import hashlib
import re
import time
from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as Overdue

from imgservice.auth.cache import Cache
from imgservice.auth.keystone.client import KeystoneClient, Reply
from imgservice.auth.keystone.credentials import OwnToken
from imgservice.auth.keystone.errors import CredentialsRefused, KeystoneError, KeystoneUnreachable
from imgservice.auth.keystone.fair_queue import FairQueue
from imgservice.auth.keystone.identity import Identity, read_identity
from imgservice.concurrency.single_flight import SingleFlight

LONGEST_TOKEN = 4096
MOST_WAITING = 5000
INVALID_TIME = 5.0
"""Seconds for which a token that Keystone does not know is refused without asking."""
MOST_INVALID = 10_000
_TOKEN = re.compile(rb"[\x21-\x7e]{1,%d}" % LONGEST_TOKEN)
TROUBLE, WHAT = "tokens", "Validation of tokens by Keystone (auth.keystone)"
"""What is reported when Keystone answers, but not as it should."""
_PATH = "/auth/tokens?nocatalog=1"
_PATH_EXPIRED = f"{_PATH}&allow_expired=1"
_ACCESS_RULES = {"OpenStack-Identity-Access-Rules": "1"}
"""Without it Keystone does not tell of tokens that are good for some requests only."""


@attrs.frozen(kw_only=True)
class TokenRules:
    """How long we wait and remember, in seconds, and how much at once."""

    timeout: float = 20.0
    """For an answer about a token, from when it is asked for."""
    cache_time: float = 300.0
    cache_size: int = 10_000
    connections: int = 8
    """Most questions to Keystone at the same time."""


class KeystoneTokens:
    """Tells whose tokens are."""

    def __init__(
        self,
        reactor: Any,
        client: KeystoneClient,
        own: OwnToken,
        rules: TokenRules,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._reactor = reactor
        self.client = client
        self._own = own
        self._rules = rules
        self._clock = clock
        self._known: Cache[Identity] = Cache(rules.cache_size)
        self._invalid: Cache[bool] = Cache(MOST_INVALID)
        self._asking: SingleFlight[bytes, Identity | None] = SingleFlight()
        self._queue = FairQueue(reactor, rules.connections, MOST_WAITING)

    async def identify(
        self, token: bytes, source: str, allow_expired: bool = False
    ) -> Identity | None:
        """Return whose the token is; None when it is not, or no longer, good.

        `KeystoneError` when that cannot be found out. Those from the same `source` wait in line.
        """
        # The token itself is kept nowhere.
        key = hashlib.sha256(token).digest() + (b"expired" if allow_expired else b"")
        identity = self._known.get(key)
        if identity is not None:
            return identity if allow_expired or identity.expires > self._clock() else None
        if not _TOKEN.fullmatch(token) or self._invalid.get(key):
            return None
        return await self._asking.share(
            key, lambda: self._find_out(key, token.decode(), source, allow_expired)
        )

    async def check(self) -> None:
        """See that Keystone takes our credentials and answers; `KeystoneError` when not."""
        try:
            own = await self._own.get(self._rules.timeout)
            reply = await self._ask(own, own, False, self._rules.timeout)
            if reply.status == 401:  # it was one of before
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
            await self._queue.enter(source, self._rules.timeout / 2)
            try:
                identity = await self._validate(token, allow_expired, deadline)
            finally:
                self._queue.leave()
        except KeystoneError as error:
            self._fails(error)
            raise
        self.client.troubles.clear(TROUBLE)
        self._remember(key, identity, allow_expired)
        return identity

    def _fails(self, error: KeystoneError) -> None:
        if not isinstance(error, KeystoneUnreachable):  # which the client has reported
            self.client.troubles.report(TROUBLE, WHAT, error.reason)

    async def _validate(self, token: str, allow_expired: bool, deadline: float) -> Identity | None:
        for _ in range(2):
            own = await self._own_token(deadline)
            left = deadline - self._reactor.seconds()
            reply = await self._ask(own, token, allow_expired, left)
            if reply.status != 401:
                return self._judge(reply, token, allow_expired)
            self._own.reject(own)
        raise CredentialsRefused("Keystone does not take the token that it has just given to us")

    async def _own_token(self, deadline: float) -> str:
        waiting = Deferred.fromCoroutine(self._own.get(self._rules.timeout / 2))
        try:
            return await waiting.addTimeout(deadline - self._reactor.seconds(), self._reactor)
        except Overdue:
            raise KeystoneError("Keystone gives us no token in time") from None

    async def _ask(self, own: str, token: str, allow_expired: bool, timeout: float) -> Reply:
        return await self.client.ask(
            "GET",
            _PATH_EXPIRED if allow_expired else _PATH,
            {"X-Auth-Token": own, "X-Subject-Token": token, **_ACCESS_RULES},
            timeout,
        )

    def _judge(self, reply: Reply, token: str, allow_expired: bool) -> Identity | None:
        if reply.status == 404 and isinstance(reply.document.get("error"), dict):
            return None
        if reply.status != 200:
            raise _no_right(reply.status)
        if reply.token != token:
            raise KeystoneError("Keystone tells of another token than we asked about")
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


def _no_right(status: int) -> CredentialsRefused:
    return CredentialsRefused(
        f"we may not ask about tokens (status {status}); does our user have the role service or"
        " admin?"
    )
