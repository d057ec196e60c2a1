"""What everybody may read without saying who they are."""

from collections.abc import Coroutine
from typing import Any

from imgservice.http.pipeline import Step
from imgservice.http.request import StreamingRequest
from imgservice.http.response import Response

PATHS = ([b"openapi.json"],)
"""Below the version; nothing in these answers depends on the caller."""


class UnlessPublic:
    """A step that is left out at `PATHS`; elsewhere it costs no coroutine of its own."""

    def __init__(self, step: Step) -> None:
        self._step = step

    def __call__(self, request: StreamingRequest) -> Coroutine[Any, Any, Response | None]:
        return _go_on() if request.postpath in PATHS else self._step(request)


async def _go_on() -> None:
    """Do nothing, as a step."""
