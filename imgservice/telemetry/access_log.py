"""The access log: one line for every request."""

from collections.abc import Mapping

from imgservice.escaping import target, words
from imgservice.service.events import Event
from imgservice.telemetry.logs import Output, json_line, moment
from imgservice.telemetry.requests import RequestFinished

_PROBES = b"/healthcheck"


class AccessLog:
    """Writes a line for each request; for those of load balancers only where told to."""

    hears = (RequestFinished,)

    def __init__(self, output: Output, as_json: bool, with_probes: bool = False) -> None:
        self._output = output
        self._as_json = as_json
        self._with_probes = with_probes

    def hear(self, event: Event) -> None:
        if not isinstance(event, RequestFinished):
            return
        if self._with_probes or event.uri is None or not event.uri.startswith(_PROBES):
            self._output.write(json_line(**_facts(event)) if self._as_json else _text(event))


def _facts(event: RequestFinished) -> Mapping[str, object]:
    return {
        "time": moment(event.at),
        "level": "access",
        "request_id": event.request_id or None,
        "client": event.client,
        "user": event.context.user,
        "project": event.context.project,
        "method": event.method,
        "path": None if event.uri is None else target(event.uri),
        "status": event.status,
        "received": event.received,
        "sent": event.sent,
        "seconds": round(event.seconds, 4),
        "aborted": event.aborted or None,
    }


def _text(event: RequestFinished) -> bytes:
    context = event.context
    chosen = words(
        (
            event.request_id or "-",
            event.client,
            context.user or "-",
            context.project or "-",
            event.method or "-",
            "-" if event.uri is None else target(event.uri),
        )
    )
    end = "aborted" if event.aborted else event.status
    return (
        f"{moment(event.at)} access {chosen} {end}"
        f" in={event.received} out={event.sent} {event.seconds:.4f}s\n"
    ).encode()
