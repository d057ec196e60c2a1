"""The pipeline: the steps that every request passes through, in the configured order."""

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from imgservice.concurrency.file_watch import request_begins
from imgservice.http.errors import error_response
from imgservice.http.request import StreamingRequest
from imgservice.http.response import Response


class Step(Protocol):
    """One step: it adds to the request, or responds to it, or raises a domain error."""

    async def __call__(self, request: StreamingRequest) -> Response | None:
        """Return None to let the request go on, or a response, which ends the pipeline."""


@runtime_checkable
class Witness(Protocol):
    """A step that is told when a step refuses a request."""

    def refused(self, request: StreamingRequest, error: BaseException | None) -> None:
        """Note the error that a step of the pipeline has raised."""


class PipelineError(Exception):
    """The configured list is not valid; `position` is the index of the wrong step."""

    def __init__(self, position: int, message: str) -> None:
        super().__init__(message)
        self.position = position


ORDER: Mapping[str, Sequence[str]] = {
    "proxy_headers": (),
    "cors": (),
    "request_id": (),
    "gzip": (),
    "address_limit": (),
    "version": (),
    "auth_token": (),
    "context": ("auth_token",),
    "rate_limit": ("context",),
}
"""The known steps, and the steps that must come before each."""
IF_THERE: Mapping[str, Sequence[str]] = {
    "address_limit": ("proxy_headers",),
    "version": ("gzip",),
    "auth_token": ("address_limit",),
}
"""Steps that must come before each, unless they are left out."""
INDISPENSABLE = ("version", "context")


def check_order(names: Sequence[str]) -> None:
    """Raise `PipelineError` unless all steps are known, and each comes after those it needs."""
    for position, name in enumerate(names):
        if name not in ORDER:
            raise PipelineError(position, f"unknown step {name!r} (known: {', '.join(ORDER)})")
        if name in names[:position]:
            raise PipelineError(position, f"the step {name!r} is there twice")
        for needed in ORDER[name]:
            if needed not in names[:position]:
                raise PipelineError(position, f"{name!r} needs {needed!r} before it")
        for earlier in IF_THERE.get(name, ()):
            if earlier in names[position:]:
                raise PipelineError(position, f"{name!r} must come after {earlier!r}")
    for name in INDISPENSABLE:
        if name not in names:
            raise PipelineError(0, f"the step {name!r} cannot be left out")


class Pipeline(Resource):
    """Runs the steps, then renders `inner`."""

    isLeaf = True

    def __init__(self, steps: Sequence[Step], inner: Resource) -> None:
        super().__init__()
        self._steps = tuple(steps)
        self._witnesses = [step for step in steps if isinstance(step, Witness)]
        self._inner = inner

    def render(self, request: StreamingRequest) -> int:
        request_begins()
        Deferred.fromCoroutine(self._run(request)).addErrback(self._failed, request)
        return NOT_DONE_YET

    async def _run(self, request: StreamingRequest) -> None:
        for step in self._steps:
            response = await step(request)
            if response is not None:
                if request.encode is not None:
                    response = await request.encode(response)
                response.send(request)
                return
        if not request.disconnected:
            request.render(self._inner)

    def _failed(self, failure: Failure, request: StreamingRequest) -> None:
        for witness in self._witnesses:
            witness.refused(request, failure.value)
        error_response(request, failure).send(request)
