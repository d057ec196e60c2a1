"""The OpenAPI document of the API, made from the declared routes: /v2/openapi.json."""

from collections.abc import Callable, Mapping, Sequence

from imgservice.api.middleware.version import SEVERAL_STORES
from imgservice.api.v2.json_schemas.fields import Schema
from imgservice.api.v2.json_schemas.image_schemas import ImageSchemas
from imgservice.http.request import StreamingRequest
from imgservice.http.response import Document, Response, json_response, title
from imgservice.http.route import ALWAYS, Content, MediaSchema, Route, named, serves, shows

POINTER: MediaSchema = {"type": "string", "pattern": "^/"}
VERBS = ("add", "remove", "replace")
JSON_PATCH: Schema = {
    "description": "The first form of an operation is that of v2.1, the others are those of v2.0.",
    "type": "array",
    "items": {
        "anyOf": [
            {
                "type": "object",
                "properties": {"op": {"enum": list(VERBS)}, "path": POINTER, "value": {}},
                "required": ["op", "path"],
            },
            *(
                {"type": "object", "properties": {verb: POINTER, "value": {}}, "required": [verb]}
                for verb in VERBS
            ),
        ]
    },
}


def _error_object(code: str) -> Schema:
    return {
        "type": "object",
        "properties": {
            "message": {"type": "string"},
            "code": {"type": code},
            "title": {"type": "string"},
        },
        "required": ["message", "code", "title"],
    }


ERROR: Schema = {
    "description": (
        "The first form is for clients that accept application/json by name, the second for others."
    ),
    "oneOf": [
        _error_object("string"),
        {
            "type": "object",
            "properties": {"error": _error_object("integer")},
            "required": ["error"],
        },
    ],
}
TOKEN: Schema = {"type": "apiKey", "in": "header", "name": "X-Auth-Token"}
CACHEABLE = "public, max-age=300"


class OpenApiRoutes:
    """Shows the OpenAPI document."""

    def __init__(self, find_schemas: Callable[[], ImageSchemas], routes: Sequence[Route]) -> None:
        """`find_schemas` returns the schemas to which routes refer, which may change."""
        self._find_schemas = find_schemas
        self._routes = routes
        self._made: tuple[ImageSchemas, Response] | None = None

    @serves(Route("GET", "/openapi.json", shows("Show this document."), is_public=True))
    async def show_openapi(self, request: StreamingRequest) -> Response:
        schemas = self._find_schemas()
        if self._made is None or self._made[0] is not schemas:
            document = openapi(self._routes, schemas.referred())
            self._made = schemas, json_response(200, document, cache_control=CACHEABLE)
        return self._made[1]


def openapi(routes: Sequence[Route], schemas: Mapping[str, Schema]) -> Document:
    """Describe the routes."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Images API",
            "version": f"2.{max(SEVERAL_STORES)}",
            "description": "HEAD is answered wherever GET is.",
        },
        "servers": [{"url": "/v2"}],
        "security": [{"token": []}, {}],
        "paths": _paths(routes),
        "components": {
            "schemas": {
                **{name: {"type": "object", **schema} for name, schema in schemas.items()},
                "json_patch": JSON_PATCH,
                "error": ERROR,
            },
            "securitySchemes": {"token": TOKEN},
        },
    }


def _paths(routes: Sequence[Route]) -> Mapping[str, Document]:
    paths: dict[str, Document] = {route.template: {} for route in sorted(routes, key=_template)}
    for route in routes:
        paths[route.template][route.method.lower()] = _operation(route)
    return paths


def _template(route: Route) -> str:
    return route.template


def _operation(route: Route) -> Document:
    documentation = route.documentation
    operation: Document = {
        "operationId": route.name,
        "summary": documentation.summary,
        "parameters": _parameters(route),
        "responses": {
            **{
                str(status): _response(status, held)
                for status, held in documentation.responses.items()
            },
            **{str(status): _error(status) for status in sorted({*ALWAYS, *documentation.errors})},
        },
    }
    if documentation.body:
        operation["requestBody"] = {"required": True, "content": _content(documentation.body)}
    if route.is_public:
        operation["security"] = []
    return operation


def _parameters(route: Route) -> Sequence[Document]:
    documentation = route.documentation
    return [
        *(_parameter("path", name, {"type": "string", "minLength": 1}) for name in route.variables),
        *(_parameter("query", name, schema) for name, schema in documentation.query.items()),
        *(_parameter("header", name, {"type": "string"}) for name in documentation.headers),
    ]


def _parameter(place: str, name: str, schema: MediaSchema) -> Document:
    return {"in": place, "name": name, "required": place == "path", "schema": schema}


def _response(status: int, held: Content) -> Document:
    return {"description": title(status), **({"content": _content(held)} if held else {})}


def _error(status: int) -> Document:
    text: MediaSchema = {"type": "string"}
    content = {"application/json": named("error"), "text/plain": text, "text/html": text}
    return {"description": title(status), "content": _content(content)}


def _content(held: Content) -> Document:
    return {media_type: {"schema": schema} for media_type, schema in held.items()}
