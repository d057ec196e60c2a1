"""Sends requests to one account of Swift."""

from collections.abc import Awaitable, Callable, Collection, Mapping
from urllib.parse import quote

import attrs

from imgservice.concurrency.reactor import Clock, sleep
from imgservice.net.answers import Fetched
from imgservice.net.bodies import Body
from imgservice.net.client import ConfiguredClient
from imgservice.net.errors import FetchFailed
from imgservice.store.interface import StoreUnavailable
from imgservice.store.swift.accounts import Access, Account
from imgservice.store.swift.errors import Failures, NoAccess, is_passing

MOST_BYTES = 16 << 20
"""Of an answer that is no object: a page of a list has up to 10,000 names."""
PAUSES = (0.1, 0.3, 1.0, 2.0, 4.0, 8.0)
"""Seconds before a request is repeated."""


@attrs.frozen
class Place:
    """An account, a container or an object in it; with `query`, something about it."""

    container: str = ""
    name: str = ""
    query: str = ""

    def __str__(self) -> str:
        path = "".join(f"/{quote(part, safe='')}" for part in (self.container, self.name) if part)
        return f"{path}?{self.query}" if self.query else path


class Attempts:
    """Tells how long a request is repeated that fails."""

    def __init__(self, clock: Clock, timeout: float) -> None:
        """Begin none when more than half of `timeout` seconds have passed."""
        self._clock = clock
        self._end = clock.seconds() + timeout / 2
        self._pauses = iter(PAUSES)

    async def another(self) -> bool:
        """Wait a moment, longer each time; tell whether there is another attempt after it."""
        pause = next(self._pauses, None)
        if pause is None or self._clock.seconds() > self._end:
            return False
        await sleep(self._clock, pause)
        return True


class SwiftClient:
    """Asks with a valid token, and again with a new one when Swift rejects it."""

    def __init__(
        self,
        clock: Clock,
        account: Account,
        client: ConfiguredClient,
        failures: Failures,
        timeout: float,
    ) -> None:
        self._clock = clock
        self._account = account
        self._client = client
        self._failures = failures
        self._timeout = timeout

    async def close(self) -> None:
        await self._account.close()

    async def ask(
        self,
        method: str,
        place: Place,
        headers: Mapping[str, str] | None = None,
        allowed: Collection[int] = (),
    ) -> Fetched:
        """Return an answer that has one of the statuses 200 to 299 or of those allowed.

        For others, and when there is none, raise an error of the store. The caller reads its data
        or calls `abort`.
        """

        async def send() -> Fetched:
            return await self._authorized(method, place, headers or {}, None)

        answer = await self.repeated(send)
        if answer.status // 100 == 2 or answer.status in allowed:
            return answer
        answer.abort()
        raise self._failures.of(answer, f"{method} {place}")

    async def told(
        self,
        method: str,
        place: Place,
        headers: Mapping[str, str] | None = None,
        allowed: Collection[int] = (),
    ) -> tuple[Fetched, bytes]:
        """The same with all of its data, which is small."""
        answer = await self.ask(method, place, headers, allowed)
        try:
            return answer, await answer.read(MOST_BYTES)
        except FetchFailed as error:
            raise self._failures.unavailable(f"Swift {error.reason}") from error

    async def put(self, place: Place, headers: Mapping[str, str], body: Body | bytes) -> Fetched:
        """Send data, once; return the answer, whatever its status, with its data read.

        `FetchFailed` when there is none; what the blocks of the body raise is raised here.
        """
        answer = await self._authorized("PUT", place, headers, body)
        await answer.read(MOST_BYTES)
        return answer

    async def repeated(self, send: Callable[[], Awaitable[Fetched]]) -> Fetched:
        """Return the answer; send again for a while if Swift fails."""
        attempts = Attempts(self._clock, self._timeout)
        while True:
            try:
                answer = await send()
            except FetchFailed as error:
                if not await attempts.another():
                    raise self._failures.unavailable(f"Swift {error.reason}") from error
                continue
            if not is_passing(answer) or not await attempts.another():
                return answer
            answer.abort()

    async def _authorized(
        self, method: str, place: Place, headers: Mapping[str, str], body: Body | bytes | None
    ) -> Fetched:
        access = await self._access()
        answer = await self._send(method, place, headers, body, access)
        if answer.status != 401:
            return answer
        answer.abort()
        self._account.reject(access)
        answer = await self._send(method, place, headers, body, await self._access())
        if answer.status == 401:
            answer.abort()
            raise self._failures.unavailable("Swift rejects a token that was issued just now")
        return answer

    async def _send(
        self,
        method: str,
        place: Place,
        headers: Mapping[str, str],
        body: Body | bytes | None,
        access: Access,
    ) -> Fetched:
        fields = {**headers, "x-auth-token": access.token}
        return await self._client.send(method, f"{access.storage_url}{place}", fields, body)

    async def _access(self) -> Access:
        try:
            return await self._account.access()
        except NoAccess as error:
            raise self._failures.unavailable(str(error)) from error
        except FetchFailed as error:
            raise self._unreachable(error) from error

    def _unreachable(self, error: FetchFailed) -> StoreUnavailable:
        return self._failures.unavailable(f"the authentication {error.reason}")
