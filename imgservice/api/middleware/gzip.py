"""Compresses JSON responses for clients that accept it."""

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
"""Bytes; shorter responses fit into one packet anyway."""
_AT_ONCE = 32 << 10
"""Bytes that take about half a millisecond; longer responses are compressed in a thread."""
_FORMAT = 16 + zlib.MAX_WBITS


class Gzip:
    """Compresses JSON documents, but neither image data nor errors."""

    def __init__(self, threads: Threads) -> None:
        self._threads = threads

    async def __call__(self, request: StreamingRequest) -> Response | None:
        request.encode = partial(self._encode, request)
        return None

    async def _encode(self, request: StreamingRequest, response: Response) -> Response:
        if not _is_json(response.content_type):
            return response
        request.responseHeaders.addRawHeader(b"vary", b"Accept-Encoding")
        if not accepts_gzip(",".join(request.header_values("accept-encoding"))):
            return response
        if response.status == 304:
            return _as_known(request, response)
        if len(response.body) < SMALLEST:
            return response
        body = await self._compress(response.body)
        return _encoded(response, body) if len(body) < len(response.body) else response

    async def _compress(self, body: bytes) -> bytes:
        if len(body) <= _AT_ONCE:
            return zlib.compress(body, wbits=_FORMAT)
        return await self._threads.run(zlib.compress, body, wbits=_FORMAT)


def accepts_gzip(listed: str) -> bool:
    """Return whether an Accept-Encoding header allows gzip and does not prefer `identity`."""
    accepted = parse_accept_header(listed, Accept)
    return bool(accepted.quality("gzip") > 0) and bool(
        accepted.quality("gzip") >= accepted.quality("identity")
    )


def _is_json(content_type: str | None) -> bool:
    kind = (content_type or "").partition(";")[0]
    return kind == "application/json" or kind.endswith("+json")


def _encoded(response: Response, body: bytes) -> Response:
    headers = {
        name: gzip_tag(value) if name.lower() == "etag" else value
        for name, value in response.headers.items()
    }
    return attrs.evolve(response, body=body, headers={**headers, "content-encoding": "gzip"})


def _as_known(request: StreamingRequest, response: Response) -> Response:
    """Confirm the entity tag of the compressed form if that is what the client has."""
    known = ",".join(request.header_values("if-none-match"))
    tags = {name: value for name, value in response.headers.items() if name.lower() == "etag"}
    shown = {name: gzip_tag(value) for name, value in tags.items() if gzip_tag(value) in known}
    return attrs.evolve(response, headers={**response.headers, **shown})
