"""Reads objects, and goes on where a connection broke."""

import re
from collections.abc import AsyncGenerator

from imgservice.concurrency.reactor import Clock, sleep
from imgservice.net.answers import Fetched
from imgservice.net.errors import FetchFailed
from imgservice.store.swift.client import Place, SwiftClient
from imgservice.store.swift.errors import Failures

_BEGIN = re.compile(r"bytes (\d{1,19})-\d{1,19}/", re.ASCII)
_NO_RANGE = 416
_VERSION = ("etag", "x-timestamp")
"""Headers that differ when the object was replaced."""
_PAUSE = 0.2


class Reading:
    """One reading of an object, over one connection after the other if need be."""

    def __init__(
        self,
        clock: Clock,
        client: SwiftClient,
        failures: Failures,
        place: Place,
        start: int,
        length: int | None,
        retries: int,
    ) -> None:
        """Stop after so many attempts in a row without a byte."""
        self._clock = clock
        self._client = client
        self._failures = failures
        self._place = place
        self._position = start
        self._left = length
        self._retries = retries
        self._version: list[str | None] | None = None

    async def blocks(self) -> AsyncGenerator[bytes, None]:
        failed = 0
        while True:
            before = self._position
            answer = await self._open()
            if answer is None:
                return
            try:
                async for block in answer.blocks():
                    self._position += len(block)
                    if self._left is not None:
                        self._left -= len(block)
                    yield block
                return
            except FetchFailed as error:
                failed = 1 if self._position > before else failed + 1
                if failed > self._retries:
                    raise self._failures.unavailable(f"Swift {error.reason}") from error
            finally:
                answer.abort()
            if self._left == 0:
                return
            await sleep(self._clock, _PAUSE * (failed - 1))

    async def _open(self) -> Fetched | None:
        """Ask for the rest; return None if there is none."""
        headers = {}
        if self._position or self._left is not None:
            last = "" if self._left is None else str(self._position + self._left - 1)
            headers["range"] = f"bytes={self._position}-{last}"
        answer = await self._client.ask("GET", self._place, headers, [_NO_RANGE])
        if answer.status == _NO_RANGE:
            answer.abort()
            return None
        try:
            self._check(answer)
        except BaseException:
            answer.abort()
            raise
        return answer

    def _check(self, answer: Fetched) -> None:
        """Raise unless the answer goes on where we are, in the same object."""
        matched = _BEGIN.match(answer.headers.get("content-range", ""))
        begin = int(matched[1]) if matched and answer.status == 206 else 0
        if begin != self._position:
            raise self._failures.unavailable("Swift answers with another range than it was asked")
        version = [answer.headers.get(name) for name in _VERSION]
        if self._version not in (None, version):
            raise self._failures.missing()
        self._version = version
