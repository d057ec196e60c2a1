"""The data of requests."""

import hashlib
from collections.abc import AsyncGenerator, Sequence

import attrs

from imgservice.store.s3.checksums import crc32


@attrs.define
class Payload:
    """Data that is in memory, so that it can be sent again."""

    blocks: Sequence[bytes]
    is_sent: bool = False
    """Whether the server may have all of it."""

    @property
    def can_be_sent(self) -> bool:
        """Whether it can be sent once more."""
        return True

    @property
    def length(self) -> int:
        return sum(map(len, self.blocks))

    def sha256(self) -> str:
        digest = hashlib.sha256()
        for block in self.blocks:
            digest.update(block)
        return digest.hexdigest()

    def crc32(self) -> str:
        return crc32(self.blocks)

    async def stream(self) -> AsyncGenerator[bytes, None]:
        self.is_sent = False
        for block in self.blocks:
            yield block
        self.is_sent = True


@attrs.define
class Streamed:
    """Data that comes while it is sent, and only once."""

    length: int
    data: AsyncGenerator[bytes, None]
    is_begun: bool = False
    """Whether some of it was sent."""
    is_sent: bool = False

    async def stream(self) -> AsyncGenerator[bytes, None]:
        self.is_begun = True
        async for block in self.data:
            yield block
        self.is_sent = True

    @property
    def can_be_sent(self) -> bool:
        return not self.is_begun
