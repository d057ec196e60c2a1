"""What lies where: the health check beside the API, everything else behind the pipeline."""

from collections.abc import Mapping
from pathlib import Path

from twisted.web.resource import Resource

from imgservice.web.pipeline import Pipeline
from imgservice.web.respond import Answer
from imgservice.web.streaming import StreamingRequest


class Healthcheck(Resource):
    """Tells a load balancer whether to send requests here."""

    isLeaf = True
    is_leaving = False
    """Whether this node is about to accept no more."""

    def __init__(self, disable_by_file: str | None) -> None:
        super().__init__()
        self._disable_by_file = Path(disable_by_file) if disable_by_file else None

    def render(self, request: StreamingRequest) -> bytes:
        if self._disable_by_file is not None and self._disable_by_file.exists():
            return Answer(503, b"DISABLED BY FILE", "text/plain; charset=UTF-8").prepare(request)
        if self.is_leaving:
            return Answer(503, b"DRAINING", "text/plain; charset=UTF-8").prepare(request)
        return Answer(200, b"OK", "text/plain; charset=UTF-8").prepare(request)


class Versions(Resource):
    """Hands a request over to the version of the API that the version step chose."""

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
        if request.path == b"/healthcheck":
            return self._healthcheck.render(request)
        return self._pipeline.render(request)
