"""The event of a finished request."""

import time
from collections.abc import Callable

import attrs

from imgservice.http.request import StreamingRequest
from imgservice.service.events import Event
from imgservice.telemetry.events import EventHub


@attrs.frozen(kw_only=True)
class RequestFinished(Event):
    """The answer to a request is complete, or its client is gone."""

    request_id: str
    client: str
    """The address of the client, seen through trusted proxies."""
    method: str | None
    """None, as `uri`, when the request was refused before it was read."""
    uri: bytes | None = attrs.field(repr=False)
    """As the client sent it; may contain secrets."""
    status: int | None
    """None when the client left before the answer began."""
    received: int
    """Bytes of the body of the request."""
    sent: int
    """Bytes of the body of the answer."""
    seconds: float
    """From the first byte of the request."""
    aborted: bool
    """Whether the client left before the end of the answer."""


def request_reporter(hub: EventHub) -> Callable[[StreamingRequest], None] | None:
    """Return what tells of each request; None when nobody listens."""
    if not hub.listeners(RequestFinished):
        return None
    return lambda request: hub.tell(_finished(request))


def _finished(request: StreamingRequest) -> RequestFinished:
    is_read = request.uri is not StreamingRequest.uri
    return RequestFinished(
        context=request.context,
        request_id=request.request_id,
        client=request.source,
        method=request.method.decode("latin-1") if is_read else None,
        uri=request.uri if is_read else None,
        status=None if request.aborted and not request.startedWriting else request.code,
        received=request.body.received if hasattr(request, "body") else 0,
        sent=request.sentLength,
        seconds=time.monotonic() - request.started_at,
        aborted=request.aborted,
    )
