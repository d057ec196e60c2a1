"""Requests without a connection, for what only looks at their headers."""

from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.web.test.requesthelper import DummyChannel

from imgservice.http.pipeline import Step
from imgservice.http.request import StreamingRequest
from imgservice.http.response import Response


def offline_request(
    path: str = "/v2/images",
    *headers: tuple[str, str | bytes],
    peer: str = "192.0.2.1",
    method: str = "GET",
) -> StreamingRequest:
    """Make a request whose headers are in."""
    channel: Any = DummyChannel()
    request = StreamingRequest(channel, False)
    request.method, request.uri = method.encode(), path.encode()
    request.path = path.partition("?")[0].encode()
    request.prepath, request.postpath = [], request.path[1:].split(b"/")
    request.peer = peer
    for name, value in headers:
        raw = value if isinstance(value, bytes) else value.encode("latin-1")
        request.requestHeaders.addRawHeader(name.encode(), raw)
    return request


def passed(step: Step, request: StreamingRequest) -> Response | None:
    """Run a step that waits for nothing; return its answer or raise its error."""
    results: list[Any] = []
    Deferred.fromCoroutine(step(request)).addBoth(results.append)
    (result,) = results
    if isinstance(result, Failure):
        result.raiseException()
    answer: Response | None = result
    return answer
