"""What everybody may read without saying who they are."""

from imgservice.web.pipeline import Step
from imgservice.web.respond import Answer
from imgservice.web.streaming import StreamingRequest

PATHS = ([b"openapi.json"],)
"""Below the version; nothing in these answers depends on the caller."""


class UnlessPublic:
    """A step that is left out at `PATHS`."""

    def __init__(self, step: Step) -> None:
        self._step = step

    async def __call__(self, request: StreamingRequest) -> Answer | None:
        return None if request.postpath in PATHS else await self._step(request)
