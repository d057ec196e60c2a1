"""Responses that are a value: a status, headers and a short body."""

from collections.abc import Mapping
from typing import TypeAlias

import attrs
import orjson
from twisted.web.http import RESPONSES

from imgservice.http.request import StreamingRequest

Document: TypeAlias = dict[str, object]
"""A JSON object that is sent; dates and enumerations in it are written as text."""
CACHE_CONTROL = "cache-control"
PRIVATE = "private, no-cache"
"""Only a private cache may store it, and must revalidate it before each use."""
UNCACHEABLE = "no-store"
_CACHEABLE = (b"GET", b"HEAD")
_PRIVATE, _UNCACHEABLE = [PRIVATE.encode()], [UNCACHEABLE.encode()]

_AS_CLIENTS_EXPECT = orjson.OPT_NAIVE_UTC | orjson.OPT_UTC_Z | orjson.OPT_OMIT_MICROSECONDS


@attrs.frozen
class Response:
    """What a handler or a step returns instead of writing to the request itself.

    By default shared caches store nothing, since they do not know that responses depend on
    `X-Auth-Token`, and no cache stores errors. A handler that knows better sets Cache-Control.
    """

    status: int
    body: bytes = b""
    content_type: str | None = None
    headers: Mapping[str, str] = attrs.field(factory=dict)

    def prepare(self, request: StreamingRequest) -> bytes:
        """Set status and headers; return the body, which the caller writes."""
        request.setResponseCode(self.status, reason(self.status))
        response = request.responseHeaders
        for name, value in self.headers.items():
            response.setRawHeaders(name, [value])
        if request.method in _CACHEABLE and CACHE_CONTROL not in self.headers:
            cacheability = _PRIVATE if self.status < 400 else _UNCACHEABLE
            response.setRawHeaders(b"cache-control", cacheability)
        if self.status not in (204, 304):
            if self.content_type is not None:
                response.setRawHeaders(b"content-type", [self.content_type])
            response.setRawHeaders(b"content-length", [b"%d" % len(self.body)])
        return self.body

    def send(self, request: StreamingRequest) -> None:
        """Send the response and finish the request, if the client is still connected."""
        if not request.disconnected:
            body = self.prepare(request)
            request.write(body)
            request.finish()


def json_text(document: object, option: int = 0) -> bytes:
    """Write a document; times in it are naive UTC, and are written without fractions of seconds."""
    return orjson.dumps(document, option=option | _AS_CLIENTS_EXPECT)


def json_response(status: int, document: object, **headers: str) -> Response:
    """Return a response with a JSON document; `_` in the names of headers stands for `-`."""
    return Response(
        status,
        json_text(document),
        "application/json",
        {name.replace("_", "-"): value for name, value in headers.items()},
    )


def no_content() -> Response:
    return Response(204)


# Twisted has no phrase for these, or not the one that clients of Glance show to users.
_PHRASES = {
    413: "Request Entity Too Large",
    414: "URI Too Long",
    416: "Request Range Not Satisfiable",
    429: "Too Many Requests",
    431: "Request Header Fields Too Large",
    300: "Multiple Choices",
}


def reason(status: int) -> bytes:
    """Return the reason phrase of a status."""
    phrase = _PHRASES.get(status)
    return phrase.encode() if phrase else RESPONSES.get(status, b"Unknown")


def title(status: int) -> str:
    return reason(status).decode("ascii")


def error_object(status: int, message: str) -> bytes:
    """Return an error as Keystone writes it, for clients that name no type."""
    error = {"message": message, "code": status, "title": title(status)}
    return orjson.dumps({"error": error})
