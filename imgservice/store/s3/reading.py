"""Objects that are read, also when the connection breaks in the middle."""

import re
from collections.abc import AsyncGenerator, Mapping

import attrs

from imgservice.concurrency.reactor import Clock, sleep
from imgservice.net.answers import Fetched
from imgservice.net.errors import FetchFailed
from imgservice.store.s3.checksums import Verification, verification
from imgservice.store.s3.requests import PAUSES, Bucket

_CONTENT_RANGE = re.compile(r"bytes (\d{1,19})-\d{1,19}/(?:\d{1,19}|\*)", re.ASCII)


@attrs.define
class Reading:
    """The reading of one object, or of a range of it."""

    bucket: Bucket
    key: str
    position: int
    end: int | None
    verifies: bool
    """Whether to ask for the checksum of a whole object."""
    _etag: str | None = None
    _failures: int = 0

    async def blocks(self, clock: Clock) -> AsyncGenerator[bytes, None]:
        """Yield the data; go on where it broke off, as long as each attempt yields something."""
        checksum: Verification | None = None
        while True:
            is_whole = self.position == 0 and self.end is None
            answer = await self._open(self.verifies and is_whole)
            if answer is None:
                return
            if is_whole:
                checksum = verification(answer.headers) if self.verifies else None
            try:
                async for block in answer.blocks():
                    self.position += len(block)
                    self._failures = 0
                    if checksum is not None:
                        checksum.update(block)
                    yield block
            except FetchFailed:
                if self._failures >= len(PAUSES):
                    raise
            else:
                break
            await sleep(clock, PAUSES[self._failures])
            self._failures += 1
        if checksum is not None and not checksum.is_right:
            raise FetchFailed("sends data that does not match its checksum")

    async def _open(self, with_checksum: bool) -> Fetched | None:
        """Return the rest of the data; None when there is none."""
        headers: dict[str, str] = {}
        if self._etag is not None:
            headers["if-match"] = self._etag
        if self.position or self.end is not None:
            last = "" if self.end is None else self.end - 1
            headers["range"] = f"bytes={self.position}-{last}"
        if with_checksum:
            headers["x-amz-checksum-mode"] = "ENABLED"
        answer = await self.bucket.open(self.key, headers)
        if answer.status == 416:
            answer.abort()
            return None
        if "range" in headers and self._begin(answer.headers) != self.position:
            answer.abort()
            raise FetchFailed("gives no usable answer", "another range")
        self._etag = answer.headers.get("etag")
        return answer

    def _begin(self, headers: Mapping[str, str]) -> int | None:
        found = _CONTENT_RANGE.fullmatch(headers.get("content-range", ""))
        return int(found[1]) if found else None
