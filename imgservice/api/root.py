"""The resources of the site: the health check, and the API behind the pipeline."""

from collections.abc import Mapping
from pathlib import Path

from twisted.web.resource import Resource

from imgservice.api.middleware.browsers import KnownHosts
from imgservice.domain.errors import Forbidden
from imgservice.http.pipeline import Pipeline
from imgservice.http.request import NO_ADDRESS, StreamingRequest
from imgservice.http.response import CACHE_CONTROL, UNCACHEABLE, Document, Response, json_response
from imgservice.troubles import Troubles

PATH = b"/healthcheck"
READY = b"/healthcheck/ready"
LOCAL = frozenset((NO_ADDRESS, "127.0.0.1", "::1", "::ffff:127.0.0.1"))
_OWN_HOSTS = KnownHosts((), "")
_FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip", "via")


class Healthcheck(Resource):
    """Tells a load balancer whether to send requests here.

    Whether the process is alive, and whether it is ready because what it depends on works, are two
    questions with two paths: a process must not be restarted because its database is down.
    """

    isLeaf = True
    is_leaving = False
    """Whether this node is about to stop accepting requests."""

    def __init__(self, disable_by_file: str | None, troubles: Troubles) -> None:
        super().__init__()
        self._disable_by_file = Path(disable_by_file) if disable_by_file else None
        self._troubles = troubles

    def render(self, request: StreamingRequest) -> bytes:
        is_detailed = b"detailed" in request.uri.partition(b"?")[2].split(b"&")
        if is_detailed or request.path == READY:
            return self._readiness(is_detailed and _is_local(request)).prepare(request)
        reason = self._reason()
        text, status = (reason.upper(), 503) if reason else ("OK", 200)
        headers = {CACHE_CONTROL: UNCACHEABLE}
        response = Response(status, text.encode(), "text/plain; charset=UTF-8", headers)
        return response.prepare(request)

    def _reason(self) -> str | None:
        """Return why this node refuses requests that it could serve; None when it does not."""
        if self._disable_by_file is not None and self._disable_by_file.exists():
            return "disabled by file"
        return "draining" if self.is_leaving else None

    def _readiness(self, with_details: bool) -> Response:
        reason, present = self._reason(), self._troubles.present
        failing = [one.key for one in present if one.is_essential]
        document: Document = {"ready": not (reason or failing), "failing": failing}
        if reason:
            document["failing"] = [reason, *failing]
        if with_details:
            document["troubles"] = [
                {"name": one.key, "what": one.what, "why": one.why, "since": one.moment}
                for one in present
            ]
        return json_response(200 if document["ready"] else 503, document, cache_control=UNCACHEABLE)


def _is_local(request: StreamingRequest) -> bool:
    """Return whether the request comes from this machine, and not through a proxy or a web page."""
    if request.peer not in LOCAL or any(request.header(name) for name in _FORWARDED):
        return False
    try:
        _OWN_HOSTS(request)
    except Forbidden:
        return False
    return True


class Versions(Resource):
    """Renders the version of the API that the version step has found."""

    isLeaf = True

    def __init__(self, versions: Mapping[str, Resource]) -> None:
        super().__init__()
        self._versions = versions

    def render(self, request: StreamingRequest) -> int:
        resource = self._versions[request.api_version]
        result: int = resource.render(request)
        return result


class Root(Resource):
    """The resource of the whole site."""

    isLeaf = True

    def __init__(self, pipeline: Pipeline, healthcheck: Healthcheck) -> None:
        super().__init__()
        self._pipeline = pipeline
        self._healthcheck = healthcheck

    def render(self, request: StreamingRequest) -> int | bytes:
        if request.path in (PATH, READY):
            return self._healthcheck.render(request)
        return self._pipeline.render(request)
