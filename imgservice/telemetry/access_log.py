"""The access log: one line for every request."""

from collections.abc import Mapping

from imgservice.escaping import target, words
from imgservice.service.events import Event
from imgservice.telemetry.logs import Output, json_line, moment
from imgservice.telemetry.requests import RequestFinished

_PROBES = b"/healthcheck"
_CHOSEN = ("request_id", "client", "user", "project", "method", "path")
"""What clients choose."""


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
            facts = _facts(event)
            self._output.write(json_line(**facts) if self._as_json else _text(facts))


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


def _text(facts: Mapping[str, object]) -> bytes:
    chosen = words([str(facts[name] or "-") for name in _CHOSEN])
    end = "aborted" if facts["aborted"] else facts["status"]
    return (
        f"{facts['time']} access {chosen} {end}"
        f" in={facts['received']} out={facts['sent']} {facts['seconds']:.4f}s\n"
    ).encode()
