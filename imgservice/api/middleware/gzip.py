"""Compresses answers in JSON for clients that accept it."""

import zlib
from functools import partial

import attrs
from werkzeug.datastructures import Accept
from werkzeug.http import parse_accept_header

from imgservice.concurrency.threads import Threads
from imgservice.http.conditional import gzip_tag
from imgservice.http.request import StreamingRequest
from imgservice.http.response import Response

SMALLEST = 1024
"""Bytes; what is shorter fits into the first packet anyway."""
_AT_ONCE = 32 << 10
"""Bytes that take about half a millisecond; more are compressed in a thread."""
_FORMAT = 16 + zlib.MAX_WBITS


class Gzip:
    """Never compresses the data of images, nor errors."""

    def __init__(self, threads: Threads) -> None:
        self._threads = threads

    async def __call__(self, request: StreamingRequest) -> Response | None:
        request.encode = partial(self._encode, request)
        return None

    async def _encode(self, request: StreamingRequest, answer: Response) -> Response:
        if not _is_json(answer.content_type):
            return answer
        request.responseHeaders.addRawHeader(b"vary", b"Accept-Encoding")
        if not accepts_gzip(",".join(request.header_values("accept-encoding"))):
            return answer
        if answer.status == 304:
            return _as_known(request, answer)
        if len(answer.body) < SMALLEST:
            return answer
        body = await self._compress(answer.body)
        return _encoded(answer, body) if len(body) < len(answer.body) else answer

    async def _compress(self, body: bytes) -> bytes:
        if len(body) <= _AT_ONCE:
            return zlib.compress(body, wbits=_FORMAT)
        return await self._threads.run(zlib.compress, body, wbits=_FORMAT)


def accepts_gzip(listed: str) -> bool:
    """Tell whether a list of codings has gzip, and does not like the bare content better."""
    accepted = parse_accept_header(listed, Accept)
    return bool(accepted.quality("gzip") > 0) and bool(
        accepted.quality("gzip") >= accepted.quality("identity")
    )


def _is_json(content_type: str | None) -> bool:
    kind = (content_type or "").partition(";")[0]
    return kind == "application/json" or kind.endswith("+json")


def _encoded(answer: Response, body: bytes) -> Response:
    headers = {
        name: gzip_tag(value) if name.lower() == "etag" else value
        for name, value in answer.headers.items()
    }
    return attrs.evolve(answer, body=body, headers={**headers, "content-encoding": "gzip"})


def _as_known(request: StreamingRequest, answer: Response) -> Response:
    """Confirm the compressed form if that is what the client has."""
    known = ",".join(request.header_values("if-none-match"))
    tags = {name: value for name, value in answer.headers.items() if name.lower() == "etag"}
    shown = {name: gzip_tag(value) for name, value in tags.items() if gzip_tag(value) in known}
    return attrs.evolve(answer, headers={**answer.headers, **shown})
