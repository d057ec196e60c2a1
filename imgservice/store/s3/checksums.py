"""Checksums of objects, by which the server lets us verify what we read."""

import base64
import hashlib
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol


class _Digest(Protocol):
    def update(self, data: bytes, /) -> None: ...

    def digest(self) -> bytes: ...


class _Crc32:
    def __init__(self) -> None:
        self._value = 0

    def update(self, data: bytes, /) -> None:
        self._value = zlib.crc32(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(4, "big")


class Verification:
    """Computes the checksum of what is read."""

    def __init__(self, expected: str, digest: _Digest) -> None:
        self._expected = expected
        self.update = digest.update
        self._digest = digest

    @property
    def is_right(self) -> bool:
        return base64.b64encode(self._digest.digest()).decode() == self._expected


def crc32(blocks: Sequence[bytes]) -> str:
    """Return the CRC32 as it is in headers."""
    digest = _Crc32()
    for block in blocks:
        digest.update(block)
    return base64.b64encode(digest.digest()).decode()


def verification(headers: Mapping[str, str]) -> Verification | None:
    """Return what verifies an answer by a checksum in its headers, None if there is none.

    That of an object in parts may be made of those of the parts, and has their number at its end.
    """
    for name, make in _KNOWN.items():
        expected = headers.get(f"x-amz-checksum-{name}", "")
        if expected and "-" not in expected:
            return Verification(expected, make())
    return None


_KNOWN: Mapping[str, Callable[[], _Digest]] = {
    "crc32": _Crc32,
    "sha256": hashlib.sha256,
    "sha1": lambda: hashlib.sha1(usedforsecurity=False),
}
