"""Gives every request an id: that of the client, or a new one."""

import os

from imgservice.domain.errors import HeaderTooLong, Invalid
from imgservice.http.request import StreamingRequest
from imgservice.http.response import Response

HEADER = b"x-openstack-request-id"


class RequestId:
    def __init__(self, longest: int) -> None:
        self._longest = longest

    async def __call__(self, request: StreamingRequest) -> Response | None:
        given = request.requestHeaders.getRawHeaders(HEADER)
        request.request_id = self._checked(given[0]) if given and given[0] else self._new()
        request.responseHeaders.setRawHeaders(HEADER, [request.request_id.encode()])
        return None

    def _new(self) -> str:
        digits = os.urandom(16).hex()
        parts = (digits[:8], digits[8:12], "4" + digits[13:16], "a" + digits[17:20], digits[20:])
        return "req-" + "-".join(parts)

    def _checked(self, given: bytes) -> str:
        if len(given) > self._longest:
            raise HeaderTooLong(f"The request id is longer than {self._longest} characters.")
        text = given.decode("ascii", "replace")
        if not text.isascii() or not text.isprintable():
            raise Invalid("The request id is not printable ASCII.")
        return text if text.startswith("req-") else f"req-{text}"
