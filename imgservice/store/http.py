"""Objects on web servers, where others have put them."""

import re
from collections.abc import AsyncGenerator, AsyncIterator

import attrs

from imgservice.concurrency.threads import Threads
from imgservice.domain.options import option
from imgservice.domain.url_filter import Refused
from imgservice.net.answers import Fetched
from imgservice.net.client import Fetcher
from imgservice.net.errors import FetchFailed
from imgservice.net.tls import authorities
from imgservice.store.interface import (
    DataNotFound,
    LocationRefused,
    Stored,
    StoreReadOnly,
    StoreUnavailable,
)
from imgservice.store.registry import Driver, StoreConfig

_CONTENT_RANGE = re.compile(r"bytes (?:(\d{1,19})-\d{1,19}|\*)/(\d{1,19}|\*)", re.ASCII)
_GONE = (404, 410)


@attrs.frozen(kw_only=True)
class HttpConfig(StoreConfig):
    """The options of a store of type `http`."""

    ca_file: str | None = option(
        None, "PEM file with the authorities to trust. null: those of the system."
    )
    verify: bool = option(True, "Verify the certificates of servers.")

    def __attrs_post_init__(self) -> None:
        if self.ca_file is not None and not self.verify:
            raise ValueError("ca_file has no meaning without verify")
        authorities(self.ca_file)


class HttpStore:
    """Reads what the URL filter allows, and writes nothing."""

    def __init__(
        self, store_id: str, config: HttpConfig, threads: Threads, fetcher: Fetcher
    ) -> None:
        self._name = f"Store {store_id}"
        self._fetcher = fetcher.trusting(config.ca_file, config.verify)

    async def add(self, image_id: str, data: AsyncIterator[bytes], size: int | None) -> Stored:
        raise StoreReadOnly(f"{self._name} is read-only")

    async def read(
        self, url: str, start: int = 0, length: int | None = None
    ) -> AsyncGenerator[bytes, None]:
        if length == 0:
            await self._head(url)
            return
        last = "" if length is None else start + length - 1
        try:
            answer = await self._ask("GET", url, f"bytes={start}-{last}" if start or last else None)
        except LocationRefused as error:
            raise StoreUnavailable(f"{self._name} cannot reach the data") from error
        if answer.status == 416:
            answer.abort()
            return
        blocks = self._cut(answer, start - self._begin(answer), length)
        try:
            async for block in blocks:
                yield block
        except FetchFailed as error:
            raise StoreUnavailable(f"{self._name} cannot read the data") from error
        finally:
            answer.abort()

    async def delete(self, url: str) -> None:
        raise StoreReadOnly(f"{self._name} is read-only")

    async def size(self, url: str) -> int:
        """Send HEAD, and if that does not tell the size, GET for the first byte."""
        answer = await self._head(url)
        if answer.status == 200 and answer.length is not None:
            return answer.length
        answer = await self._ask("GET", url, "bytes=0-0")
        answer.abort()
        if answer.status == 200:
            total = answer.length
        else:
            matched = _CONTENT_RANGE.fullmatch(answer.headers.get("content-range", ""))
            total = int(matched[2]) if matched and matched[2] != "*" else None
        if total is None:
            raise StoreUnavailable(f"{self._name} is not told the size of the data")
        return total

    async def discard(self, image_id: str) -> None:
        pass  # nothing was ever added

    async def check(self) -> None:
        pass  # the servers are known only from locations

    def holds(self, url: str) -> bool:
        return url.lower().startswith(("http://", "https://"))

    takes = holds

    async def _head(self, url: str) -> Fetched:
        answer = await self._ask("HEAD", url, None)
        answer.abort()
        return answer

    async def _ask(self, method: str, url: str, wanted: str | None) -> Fetched:
        """Return an answer with the status 200, 206 or 416; to HEAD, with any but 404 and 410."""
        if not self.holds(url):
            raise DataNotFound(f"{self._name} has no such object")
        try:
            answer = await self._fetcher.open(method, url, {"range": wanted} if wanted else None)
        except Refused as error:
            raise LocationRefused(error.message) from error
        except FetchFailed as error:
            raise StoreUnavailable(f"{self._name}: {error.message}") from error
        self._check_status(answer, method)
        return answer

    def _check_status(self, answer: Fetched, method: str) -> None:
        if answer.status in _GONE:
            answer.abort()
            raise DataNotFound(f"{self._name} has no such object")
        if method == "GET" and answer.status not in (200, 206, 416):
            answer.abort()
            raise StoreUnavailable(
                f"{self._name}: the server of the URL answers with status {answer.status}"
            )

    def _begin(self, answer: Fetched) -> int:
        """Return the position in the object at which the answer begins."""
        if answer.status == 200:
            return 0
        matched = _CONTENT_RANGE.fullmatch(answer.headers.get("content-range", ""))
        if matched is None or matched[1] is None:
            answer.abort()
            raise StoreUnavailable(f"{self._name}: the server of the URL gives no usable answer")
        return int(matched[1])

    async def _cut(self, answer: Fetched, skip: int, length: int | None) -> AsyncIterator[bytes]:
        """Yield the requested part, however much of the object the server sends."""
        if skip < 0:
            raise StoreUnavailable(f"{self._name}: the server of the URL gives no usable answer")
        async for block in answer.blocks():
            wanted = block[skip:] if length is None else block[skip:][:length]
            skip = max(0, skip - len(block))
            if wanted:
                yield wanted
            if length is not None:
                length -= len(wanted)
                if length == 0:
                    return


DRIVER = Driver(config=HttpConfig, create=HttpStore, fetches=True, read_only=True)
