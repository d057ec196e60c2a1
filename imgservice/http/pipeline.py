"""The chain that every request passes through, as the configuration lists it."""

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
    """One link: it enriches the request, or answers it, or raises a domain error."""

    async def __call__(self, request: StreamingRequest) -> Response | None:
        """Return None to let the request go on, or the answer that ends its way here."""


@runtime_checkable
class Witness(Protocol):
    """A step that wants to know why others refused a request."""

    def refused(self, request: StreamingRequest, error: BaseException | None) -> None:
        """Take note of what a step of the pipeline has raised."""


class PipelineError(Exception):
    """The configured list makes no sense; `position` is the index of the step at fault."""

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
"""The known steps, and what must come before each."""
IF_THERE: Mapping[str, Sequence[str]] = {
    "address_limit": ("proxy_headers",),
    "version": ("gzip",),
    "auth_token": ("address_limit",),
}
"""What must come before each, unless it is left out."""
INDISPENSABLE = ("version", "context")


def check_order(names: Sequence[str]) -> None:
    """Raise `PipelineError` unless the steps are known and each comes after what it needs."""
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
    """Runs the steps, then hands the request over to `inner`."""

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
            answer = await step(request)
            if answer is not None:
                if request.encode is not None:
                    answer = await request.encode(answer)
                answer.send(request)
                return
        if not request.disconnected:
            request.render(self._inner)

    def _failed(self, failure: Failure, request: StreamingRequest) -> None:
        for witness in self._witnesses:
            witness.refused(request, failure.value)
        error_response(request, failure).send(request)
