"""Klein, with what every route of ours has in common."""

from collections.abc import Callable
from typing import Any

from klein import Klein
from twisted.internet.defer import CancelledError, Deferred, DeferredList, maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from imgservice.domain.errors import ImageServiceError, Invalid
from imgservice.http.answer_memory import LARGE
from imgservice.http.errors import RETRY_AFTER, error_body, error_response
from imgservice.http.request import StreamingRequest
from imgservice.http.response import Response
from imgservice.http.route import RouteInfo
from imgservice.http.sending import ClientGone

NO_ROOM = "Too many clients have not read their answers yet. Try again later."

_log = Logger()


class Tasks:
    """Handlers under way.

    A handler always runs to its end. When its client leaves, Klein cancels what it waits for: that
    is what `shield` hands out, and not the handler, whose transactions must not be left half known.
    It learns of the loss from the body it reads or the answer it writes.
    """

    def __init__(self) -> None:
        self._running: set[Deferred[Any]] = set()

    def shield(self, running: Deferred[Any]) -> Deferred[Any]:
        """Return a Deferred with the same result whose cancellation stops nothing."""
        outside: Deferred[Any] = Deferred()
        if not running.called:
            self._running.add(running)
        running.addBoth(self._ended, running, outside)
        return outside

    def _ended(self, result: Any, running: Deferred[Any], outside: Deferred[Any]) -> None:
        self._running.discard(running)
        if not outside.called:
            outside.callback(result)
        elif isinstance(result, Failure) and not _expected(result):
            _log.failure("A request whose client had left failed", result)

    async def ended(self) -> None:
        """Wait until no handler runs."""
        while self._running:
            await DeferredList([_after(one) for one in self._running])


def _after(running: Deferred[Any]) -> Deferred[None]:
    """Fire after `running`, leaving its result alone."""
    after: Deferred[None] = Deferred()

    def fire(result: Any) -> Any:
        after.callback(None)
        return result

    running.addBoth(fire)
    return after


def _expected(failure: Failure) -> bool:
    return bool(failure.check(ClientGone, CancelledError, ImageServiceError))


class ApiApp(Klein):
    """A version of the API: its routes return an `Response`, or have answered and return None."""

    def __init__(self, tasks: Tasks) -> None:
        super().__init__()
        self._tasks = tasks
        self._with_body: set[str] = set()
        self.about: dict[str, RouteInfo] = {}
        """What the routes say of themselves, by endpoint."""
        self.url_map.merge_slashes = False
        self.handle_errors(Exception)(self._failed)

    def route(
        self,
        url: str,
        *args: Any,
        takes_body: bool = False,
        about: RouteInfo | None = None,
        **kwargs: Any,
    ) -> Callable[[Any], Any]:
        """Add a route; a request with a body is refused where the route does not take one."""
        decorate = super().route(url, *args, **kwargs)

        def add(handler: Any) -> Any:
            endpoint = kwargs.get("endpoint", handler.__name__)
            if takes_body:
                self._with_body.add(endpoint)
            if about is not None:
                self.about[endpoint] = about
            return decorate(handler)

        return add

    def execute_endpoint(
        self, endpoint: str, request: Any, *args: Any, **kwargs: Any
    ) -> Deferred[Any]:
        if request.body.length != 0 and endpoint not in self._with_body:
            raise Invalid("A body is not expected with this request.")
        handling: Deferred[Any] = maybeDeferred(
            super().execute_endpoint, endpoint, request, *args, **kwargs
        )
        if request.encode is not None:
            handling.addCallback(_encoded, request.encode)
        return self._tasks.shield(handling).addCallbacks(_prepared, _nothing_to_say, (request,))

    def _failed(self, request: StreamingRequest, failure: Failure) -> bytes | None:
        answer = error_response(request, failure)
        if request.startedWriting:  # the client must not take a part for the whole
            request.channel.abort()
            return None
        return answer.prepare(request)


def _nothing_to_say(failure: Failure) -> None:
    """A handler may learn sooner than Klein that its client is gone."""
    failure.trap(ClientGone)


def _encoded(result: Response | None, encode: Callable[[Response], Any]) -> Any:
    return Deferred.fromCoroutine(encode(result)) if isinstance(result, Response) else result


def _prepared(result: Response | None, request: StreamingRequest) -> bytes | None:
    if not isinstance(result, Response):
        return None
    size = len(result.body)
    if size >= LARGE and not (request.disconnected or request.channel.site.answers.admits(size)):
        result = error_body(request, 503, NO_ROOM, {"retry-after": RETRY_AFTER})
    return result.prepare(request)
