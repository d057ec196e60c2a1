"""Declarations of routes: what everything that needs to know the routes reads.

A class has a method for each route, and `serves` declares it. Routing, body checks, rate limits,
public paths and the OpenAPI document are made of these declarations.
"""

import re
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from enum import Enum
from typing import TypeAlias, TypeVar

import attrs

MediaSchema: TypeAlias = Mapping[str, object]
Content: TypeAlias = Mapping[str, MediaSchema]
"""The schemas of a body, by media type."""

NOTHING: Content = {}
OCTETS: Content = {"application/octet-stream": {}}
OBJECT: Content = {"application/json": {"type": "object"}}

ALWAYS = (400, 401, 403, 404, 429, 431, 503)
"""The statuses of errors that any route may send."""
_VARIABLE = re.compile(r"<(?:\w+:)?(\w+)>")


class Body(Enum):
    """What a route does with the body of a request."""

    NONE = "none"
    """Refuses it."""
    IGNORED = "ignored"
    """Does not read it."""
    JSON = "json"
    """Reads a document of limited length."""
    DATA = "data"
    """Reads a stream of any length."""


class Cost(Enum):
    """What a request counts as, where rates are limited."""

    REQUEST = "request"
    CREATE = "create"
    """May add rows to the database, which deleting does not remove."""


@attrs.frozen
class Documentation:
    """What the OpenAPI document says of a route, besides its declaration."""

    summary: str
    responses: Mapping[int, Content]
    """The content of each response that is not an error, by its status."""
    errors: Sequence[int] = ()
    """The statuses of errors, besides those of `ALWAYS`."""
    body: Content = NOTHING
    query: Mapping[str, MediaSchema] = attrs.field(factory=dict)
    """The schema of each query parameter."""
    headers: Sequence[str] = ()
    """Request headers that the route reads."""


def named(schema: str) -> MediaSchema:
    """Refer to a schema of the document's components."""
    return {"$ref": f"#/components/schemas/{schema}"}


def json_of(schema: str) -> Content:
    """Refer to a schema as the content of a JSON body."""
    return {"application/json": named(schema)}


def json_object(required: str, **properties: MediaSchema) -> Content:
    """Describe a JSON body of these properties, of which one must be there."""
    schema = {"type": "object", "properties": properties, "required": [required]}
    return {"application/json": schema}


def shows(summary: str) -> Documentation:
    """Document a route that answers with a JSON object."""
    return Documentation(summary, {200: OBJECT})


@attrs.frozen(eq=False)
class Route:
    """A method and a path, and what is declared about them."""

    method: str
    """GET stands for HEAD as well."""
    path: str
    """Below the version of the API; `<name>` is a variable, which the handler takes by its name."""
    documentation: Documentation
    name: str = ""
    """Unique in its version; by default that of the handler."""
    rules: Sequence[str] = ()
    """The policy rules that guard it."""
    body: Body = Body.NONE
    body_limit: int = 0
    """How many bytes a JSON body has at most; 0: as many as the configuration allows."""
    cost: Cost = Cost.REQUEST
    is_public: bool = False
    """Whether callers need not authenticate."""
    arguments: Mapping[str, str] = attrs.field(factory=dict)
    """What the handler is told besides the variables, where it serves several routes."""

    @property
    def template(self) -> str:
        """The path with its variables in braces, as OpenAPI and policy rules write them."""
        return _VARIABLE.sub(r"{\1}", self.path)

    @property
    def variables(self) -> Sequence[str]:
        """The names of the variables in the path."""
        return sorted(_VARIABLE.findall(self.path))


NO_ROUTE = Route("", "", Documentation("", {}))
"""The route of a request that has not been routed, or that no route serves."""

Handler = TypeVar("Handler", bound=Callable[..., Awaitable[object]])


def serves(*routes: Route) -> Callable[[Handler], Handler]:
    """Declare the routes that a method serves."""

    def declare(handler: Handler) -> Handler:
        vars(handler)["routes"] = tuple(
            route if route.name else attrs.evolve(route, name=handler.__name__) for route in routes
        )
        return handler

    return declare


def routes_of(nouns: Iterable[type]) -> Iterator[Route]:
    """Yield the routes that the methods of these classes serve, in the order of the code."""
    for noun in nouns:
        for member in vars(noun).values():
            yield from getattr(member, "routes", ())


def handlers_of(noun: object) -> Iterator[tuple[Route, Callable[..., Awaitable[object]]]]:
    """Yield the routes of an object with the bound methods that serve them."""
    for name, member in vars(type(noun)).items():
        for route in getattr(member, "routes", ()):
            yield route, getattr(noun, name)
