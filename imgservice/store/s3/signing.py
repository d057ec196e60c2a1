"""Signatures of requests and of their data (AWS Signature Version 4), made by botocore."""

import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Mapping

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from imgservice.store.s3.credentials import Keys

UNSIGNED = "UNSIGNED-PAYLOAD"
STREAMED = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
EMPTY = hashlib.sha256().hexdigest()
CHUNK = 256 << 10
"""Bytes of data with one signature, in a body that is signed while it is sent."""
_LINE = len(";chunk-signature=") + 64 + 2 * len("\r\n")


class Signature(S3SigV4Auth):  # type: ignore[misc]  # botocore ships no types
    """Signs one request, and afterwards the chunks of its body."""

    def __init__(self, keys: Keys, region: str) -> None:
        super().__init__(Credentials(keys.access_key, keys.secret_key, keys.token), "s3", region)
        self._digest = EMPTY
        self._request: AWSRequest | None = None
        self._last = ""

    def headers(
        self, method: str, url: str, headers: Mapping[str, str], digest: str
    ) -> Mapping[str, str]:
        """Return the headers with the signature; `digest` is the SHA-256 of the body, or one of the
        words above."""
        self._digest = digest
        request = AWSRequest(method, url, dict(headers))
        self.add_auth(request)
        self._request = request
        self._last = request.headers["Authorization"].rpartition("=")[2]
        return dict(request.headers.items())

    def payload(self, request: AWSRequest) -> str:
        return self._digest

    async def chunks(self, data: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
        """Yield the body, with a signature before each chunk of the data."""
        async for chunk in _cut(data):
            yield self._line(chunk)
            yield chunk
            yield b"\r\n"
        yield self._line(b"") + b"\r\n"

    def _line(self, chunk: bytes) -> bytes:
        assert self._request is not None  # noqa: S101 # signed before its body
        text = "\n".join(
            (
                "AWS4-HMAC-SHA256-PAYLOAD",
                self._request.context["timestamp"],
                self.credential_scope(self._request),
                self._last,
                EMPTY,
                hashlib.sha256(chunk).hexdigest(),
            )
        )
        self._last = self.signature(text, self._request)
        return b"%x;chunk-signature=%b\r\n" % (len(chunk), self._last.encode())


def signed_length(length: int) -> int:
    """Return the length of the body that `chunks` makes of so many bytes of data."""
    whole, rest = divmod(length, CHUNK)
    sizes = [(whole, CHUNK), (1 if rest else 0, rest), (1, 0)]
    return sum(count * (len(f"{size:x}") + _LINE + size) for count, size in sizes)


async def _cut(data: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield the data in chunks of equal length, except for the last one."""
    kept = b""
    async for block in data:
        start = 0
        if kept:
            start = CHUNK - len(kept)
            kept += block[:start]
            if len(kept) < CHUNK:
                continue
            yield kept
        end = start + (len(block) - start) // CHUNK * CHUNK
        for position in range(start, end, CHUNK):
            yield block[position : position + CHUNK]
        kept = block[end:]
    if kept:
        yield kept
