"""Routing: Klein, fed with declared routes, and what all handlers have in common."""

from collections.abc import Callable, Coroutine, Iterable, Sequence
from functools import cache
from typing import Any, TypeAlias, TypeVar

import attrs
from klein import Klein
from twisted.internet.defer import CancelledError, Deferred, DeferredList, maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from werkzeug.exceptions import HTTPException
from werkzeug.routing import Map, Rule, RuleFactory

from imgservice.concurrency.deferreds import after
from imgservice.domain.documents import Json
from imgservice.domain.errors import ImageServiceError, Invalid
from imgservice.http.aborted import ClientGone, cut
from imgservice.http.answer_memory import LARGE
from imgservice.http.errors import RETRY_AFTER, error_body, error_response
from imgservice.http.request import StreamingRequest
from imgservice.http.response import Response
from imgservice.http.route import Body, Route, handlers_of

NO_ROOM = "Too many clients have not read their answers yet. Try again later."

T = TypeVar("T")
_log = Logger()


class Tasks:
    """The handlers that are running.

    A handler always runs to its end. When its client leaves, Klein cancels the Deferred that it
    waits for; `shield` gives it one of its own, so that no transaction is left half done. The
    handler learns of the loss from the body that it reads or the response that it writes.
    """

    def __init__(self) -> None:
        self._running: set[Deferred[Any]] = set()

    def shield(self, running: Deferred[T]) -> Deferred[T]:
        """Return a Deferred with the same result, whose cancellation stops nothing."""
        outside: Deferred[T] = Deferred()
        if not running.called:
            self._running.add(running)
        running.addBoth(self._ended, running, outside)
        return outside

    def _ended(self, result: T | Failure, running: Deferred[T], outside: Deferred[T]) -> None:
        self._running.discard(running)
        if not outside.called:
            outside.callback(result)
        elif isinstance(result, Failure) and not _is_expected(result):
            _log.failure("A request failed after its client had disconnected", result)

    async def ended(self) -> None:
        """Wait until no handler runs."""
        while self._running:
            await DeferredList([after(one) for one in self._running])


def _is_expected(failure: Failure) -> bool:
    return bool(failure.check(ClientGone, CancelledError, ImageServiceError))


class ApiApp(Klein):
    """One version of the API.

    A handler returns a `Response`, or None when it has responded itself.
    """

    def __init__(self, tasks: Tasks, nouns: Iterable[object], json_limit: int) -> None:
        """`nouns` have the handlers; `json_limit` holds for routes that set no limit."""
        super().__init__()
        self._tasks = tasks
        self._json_limit = json_limit
        self._routes: dict[str, Route] = {}
        self.handle_errors(Exception)(self._failed)
        served = [one for noun in nouns for one in handlers_of(noun)]
        self._url_map = url_map(route for route, _ in served)
        for route, handler in served:
            self._add(route, handler)

    def _add(self, route: Route, handler: Callable[..., Any]) -> None:
        if route.name in self._routes:
            raise ValueError(f"there are two routes of the name {route.name}")
        self._routes[route.name] = attrs.evolve(
            route, body_limit=route.body_limit or self._json_limit
        )
        self.route(route.path, endpoint=route.name)(handler)

    def execute_endpoint(
        self, endpoint: str, request: Any, *args: object, **variables: object
    ) -> Deferred[bytes | None]:
        route = request.route = self._routes[endpoint]
        if request.body.length != 0 and route.body is Body.NONE:
            raise Invalid("A body is not expected with this request.")
        handle: Callable[..., Any] = super().execute_endpoint
        handling: Deferred[Response | None] = maybeDeferred(
            handle, endpoint, request, *args, **variables
        )
        if request.encode is not None:
            handling.addCallback(_encoded, request.encode)
        return self._tasks.shield(handling).addCallbacks(_prepared, _client_gone, (request,))

    def _failed(self, request: StreamingRequest, failure: Failure) -> bytes | None:
        response = error_response(request, failure)
        failure.cleanFailure()  # frames, and blocks in them, would wait for the garbage collector
        if request.startedWriting:  # the client must not take a part for the whole
            cut(request)
            return None
        return response.prepare(request)


def _client_gone(failure: Failure) -> None:
    """Send nothing; a handler may learn sooner than Klein that its client is gone."""
    failure.trap(ClientGone)


def _encoded(
    result: Response | None,
    encode: Callable[[Response], Coroutine[Deferred[object], object, Response]],
) -> Response | Deferred[Response] | None:
    return Deferred.fromCoroutine(encode(result)) if isinstance(result, Response) else result


def _prepared(result: Response | None, request: StreamingRequest) -> bytes | None:
    if not isinstance(result, Response):
        return None
    size = len(result.body)
    if size >= LARGE and not (request.disconnected or request.channel.site.answers.admits(size)):
        result = error_body(request, 503, NO_ROOM, {"retry-after": RETRY_AFTER})
    return result.prepare(request)


async def read_json(request: StreamingRequest) -> Json:
    """Read the body of a request; `TooLarge` when it is longer than its route allows."""
    document: Json = await request.body.json(request.route.body_limit)
    return document


class RouteMap:
    """Finds the route of a request that has not been routed yet."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._routes = {route.name: route for route in routes}
        self._matcher = url_map(self._routes.values()).bind("")

    def find(self, request: StreamingRequest) -> Route | None:
        """Return the route that will serve the request; None when there is none."""
        path = b"/".join(request.postpath).decode("utf-8", "replace")
        try:
            name, _ = self._matcher.match(path, request.method.decode("ascii"))
        except HTTPException:
            return None
        return self._routes[name]


_Key: TypeAlias = tuple[str, str, str, tuple[tuple[str, str], ...]]
"""What tells routes apart: name, method, path and arguments."""


def url_map(routes: Iterable[Route]) -> Map:
    """Return what finds the names of routes; it takes long to make, so equal ones are made once."""
    return _made_once(
        tuple(
            sorted(
                (route.name, route.method, route.path, tuple(sorted(route.arguments.items())))
                for route in routes
            )
        )
    )


class _Complete(Map):
    """Has its rules from the beginning: what Klein adds for a handler is one of them."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        super().__init__(merge_slashes=False)
        for rule in rules:
            super().add(rule)
        self.update()

    def add(self, rulefactory: RuleFactory) -> None:
        """Leave the rules as they are."""


@cache
def _made_once(keys: tuple[_Key, ...]) -> Map:
    return _Complete(
        [
            Rule(path, methods=[method], endpoint=name, defaults=dict(arguments))
            for name, method, path, arguments in keys
        ]
    )
