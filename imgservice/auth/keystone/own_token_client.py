"""Questions to Keystone that are asked with our own token."""

from collections.abc import Mapping

from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as Overdue

from imgservice.concurrency.reactor import Clock, twisted_clock
from imgservice.keystone.client import KeystoneClient, Reply
from imgservice.keystone.credentials import OwnToken
from imgservice.keystone.errors import KeystoneError

_ATTEMPTS = 2
"""Keystone may have rejected the first token because it was revoked; a new one should do."""


class OwnTokenClient:
    """Asks with our own token, and once more with a new one when Keystone rejects it."""

    def __init__(self, clock: Clock, client: KeystoneClient, own: OwnToken) -> None:
        self._clock = clock
        self._client = client
        self._own = own

    async def get(
        self, path: str, timeout: float, headers: Mapping[str, str] | None = None
    ) -> Reply | None:
        """Return the answer; None if Keystone rejects even a token that it has just issued.

        `KeystoneError` if there is no answer within `timeout` seconds.
        """
        deadline = self._clock.seconds() + timeout
        for _ in range(_ATTEMPTS):
            token = await self._token(deadline)
            asked_with = {"X-Auth-Token": token, **(headers or {})}
            reply = await self._client.ask("GET", path, asked_with, self._left(deadline))
            if reply.status != 401:
                return reply
            self._own.reject(token)
        return None

    async def _token(self, deadline: float) -> str:
        waiting = Deferred.fromCoroutine(self._own.get())
        try:
            return await waiting.addTimeout(self._left(deadline), twisted_clock(self._clock))
        except Overdue:
            raise KeystoneError("Keystone does not issue our token in time") from None

    def _left(self, deadline: float) -> float:
        return max(0.0, deadline - self._clock.seconds())
