"""The incoming data of an object, cut where its parts end."""

from collections.abc import AsyncGenerator, AsyncIterator

from imgservice.store.interface import StoreUnavailable


class WrongSize(StoreUnavailable):
    """There is not as much data as was announced, where that had to be told beforehand."""


class Source:
    """Reads the blocks of a stream, and remembers what the stream itself raised.

    What is wrong with the data is raised at its very end. So an object may only be completed, and
    the last byte of one that is sent by a single request may only be sent, after `is_ended`.
    """

    def __init__(self, data: AsyncIterator[bytes]) -> None:
        self._data = data
        self._kept = b""
        self.is_ended = False
        self.taken = 0
        self.error: BaseException | None = None

    async def take(self, most: int) -> bytes:
        """Return the next bytes, up to so many; none at the end."""
        await self._look()
        block, self._kept = self._kept[:most], self._kept[most:]
        self.taken += len(block)
        return block

    async def collect(self, most: int) -> list[bytes]:
        """Return the blocks of the next bytes, so many or all that are left, and see if it ends."""
        blocks = []
        while most and (block := await self.take(most)):
            blocks.append(block)
            most -= len(block)
        await self._look()
        return blocks

    async def stream(self, length: int, is_last: bool) -> AsyncGenerator[bytes, None]:
        """Yield so many bytes; `WrongSize` if there are fewer, or more after the last."""
        while length:
            block = await self.take(length)
            length -= len(block)
            if not length and is_last:
                await self._look()
            if not block or (not length and is_last and not self.is_ended):
                raise WrongSize("The data does not have the announced size")
            yield block

    async def _look(self) -> None:
        """Wait for more data, if there is none, or for its end."""
        try:
            while not self._kept and not self.is_ended:
                self._kept = await anext(self._data)
        except StopAsyncIteration:
            self.is_ended = True
        except BaseException as error:
            self.error = error
            raise
