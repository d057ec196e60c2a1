"""What everybody may read without authenticating."""

from collections.abc import Coroutine, Iterable

from imgservice.http.pipeline import Step
from imgservice.http.request import StreamingRequest
from imgservice.http.response import Response
from imgservice.http.route import Route


class UnlessPublic:
    """A step that is skipped for public routes; for others it costs no coroutine of its own."""

    def __init__(self, step: Step, routes: Iterable[Route]) -> None:
        self._step = step
        self._paths = [_segments(route) for route in routes if route.is_public]

    def __call__(self, request: StreamingRequest) -> Coroutine[object, object, Response | None]:
        return _go_on() if request.postpath in self._paths else self._step(request)


def _segments(route: Route) -> list[bytes]:
    """Return the path as requests have it; only a path without variables can be looked up."""
    if route.variables:
        raise ValueError(f"the public route {route.path} has a variable")
    return route.path[1:].encode().split(b"/")


async def _go_on() -> None:
    """Do nothing, as a step."""
