"""The OpenAPI document of the API, made from the routes themselves: /v2/openapi.json."""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import attrs

from imgservice.api.middleware.version import SEVERAL_STORES
from imgservice.api.v2.json_schemas.image_schemas import ImageSchemas
from imgservice.http.request import StreamingRequest
from imgservice.http.response import Response, json_response, title
from imgservice.http.route import ALWAYS, Content, RouteInfo, named, shows
from imgservice.http.routing import ApiApp

POINTER = {"type": "string", "pattern": "^/"}
VERBS = ("add", "remove", "replace")
JSON_PATCH = {
    "description": "The first form of an operation belongs to v2.1, the others to v2.0.",
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


def _error_object(code: str) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {
            "message": {"type": "string"},
            "code": {"type": code},
            "title": {"type": "string"},
        },
        "required": ["message", "code", "title"],
    }


ERROR = {
    "description": "The first for clients that name application/json, the second for others.",
    "oneOf": [
        _error_object("string"),
        {
            "type": "object",
            "properties": {"error": _error_object("integer")},
            "required": ["error"],
        },
    ],
}
TOKEN = {"type": "apiKey", "in": "header", "name": "X-Auth-Token"}
ABOUT = attrs.evolve(shows("Show this document."), is_public=True)
PUBLIC = "public, max-age=300"
_VARIABLE = re.compile(r"<(?:\w+:)?(\w+)>")


def routes(app: ApiApp, find_schemas: Callable[[], ImageSchemas]) -> None:
    """`find_schemas` tells the schemas to which routes refer, which may change."""
    made: dict[ImageSchemas, Response] = {}

    @app.route("/openapi.json", methods=["GET"], about=ABOUT)
    async def show_openapi(request: StreamingRequest) -> Response:
        schemas = find_schemas()
        if schemas not in made:  # only now are all routes there
            made.clear()
            document = openapi(app, schemas.referred())
            made[schemas] = json_response(200, document, cache_control=PUBLIC)
        return made[schemas]


def openapi(app: ApiApp, schemas: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Describe all routes; `KeyError` when one says nothing of itself."""
    paths: dict[str, dict[str, Any]] = {}
    for url, method, endpoint, variables in _routes(app):
        operation = _operation(endpoint, app.about[endpoint], variables)
        paths.setdefault(_VARIABLE.sub(r"{\1}", url), {})[method] = operation
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Images API",
            "version": f"2.{max(SEVERAL_STORES)}",
            "description": "HEAD is answered wherever GET is.",
        },
        "servers": [{"url": "/v2"}],
        "security": [{"token": []}, {}],
        "paths": dict(sorted(paths.items())),
        "components": {
            "schemas": {
                **{name: {"type": "object", **schema} for name, schema in schemas.items()},
                "json_patch": JSON_PATCH,
                "error": ERROR,
            },
            "securitySchemes": {
                "token": {"type": "apiKey", "in": "header", "name": "X-Auth-Token"}
            },
        },
    }


def _routes(app: ApiApp) -> Iterator[tuple[str, str, str, list[str]]]:
    for rule in app.url_map.iter_rules():
        for method in sorted((rule.methods or set()) - {"HEAD"}):
            yield rule.rule, method.lower(), rule.endpoint, sorted(rule.arguments)


def _operation(endpoint: str, about: RouteInfo, variables: list[str]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": endpoint.replace("/", "_"),
        "summary": about.summary,
        "parameters": [
            *(_parameter("path", name, {"type": "string", "minLength": 1}) for name in variables),
            *(_parameter("query", name, schema) for name, schema in about.query.items()),
            *(_parameter("header", name, {"type": "string"}) for name in about.headers),
        ],
        "responses": {
            **{str(status): _answer(status, held) for status, held in about.answers.items()},
            **{str(status): _error(status) for status in sorted({*ALWAYS, *about.errors})},
        },
    }
    if about.body:
        operation["requestBody"] = {"required": True, "content": _content(about.body)}
    if about.is_public:
        operation["security"] = []
    return operation


def _parameter(place: str, name: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"in": place, "name": name, "required": place == "path", "schema": schema}


def _answer(status: int, held: Content) -> dict[str, Any]:
    return {"description": title(status), **({"content": _content(held)} if held else {})}


def _error(status: int) -> dict[str, Any]:
    text = {"type": "string"}
    content = {"application/json": named("error"), "text/plain": text, "text/html": text}
    return {"description": title(status), "content": _content(content)}


def _content(held: Content) -> dict[str, Any]:
    return {media_type: {"schema": schema} for media_type, schema in held.items()}
