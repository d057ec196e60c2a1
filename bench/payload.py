"""The bytes that are uploaded."""

import hashlib
import mmap
import os
import random
from collections.abc import Iterator

from bench.units import MIB

PERIOD = 64 * MIB


class Payload:
    """Noise of any length that repeats every 64 MiB, in memory: a client reads no disk."""

    def __init__(self) -> None:
        self._file = os.memfd_create("bench-payload")
        noise = random.Random(1)
        for _ in range(PERIOD // MIB):
            os.write(self._file, noise.randbytes(MIB))
        self._md5: dict[int, str] = {}
        self._view = memoryview(mmap.mmap(self._file, PERIOD, prot=mmap.PROT_READ))

    @property
    def descriptor(self) -> int:
        """What to call sendfile with."""
        return self._file

    def pieces(self, size: int, longest: int = PERIOD) -> Iterator[tuple[int, int]]:
        """Yield offset in the descriptor and length, in the order to be sent."""
        done = 0
        while done < size:
            offset = done % PERIOD
            length = min(longest, PERIOD - offset, size - done)
            yield offset, length
            done += length

    def blocks(self, size: int) -> Iterator[memoryview]:
        """Yield the bytes themselves, 1 MiB at a time."""
        for offset, length in self.pieces(size, MIB):
            yield self._view[offset : offset + length]

    def md5(self, size: int) -> str:
        """Return what an honest server says about the first `size` bytes."""
        if size not in self._md5:
            digest = hashlib.md5()
            for block in self.blocks(size):
                digest.update(block)
            self._md5[size] = digest.hexdigest()
        return self._md5[size]
