"""Routes of the JSON schemas: /v2/schemas/{path}."""

from collections.abc import Callable, Mapping
from functools import partial

from imgservice.api.v2.json_schemas.fields import Schema
from imgservice.api.v2.json_schemas.image_schemas import ImageSchemas
from imgservice.api.v2.json_schemas.members import MEMBER, MEMBERS
from imgservice.api.v2.json_schemas.metadefs import METADEFS
from imgservice.api.v2.json_schemas.tasks import TASK, TASKS
from imgservice.http.request import StreamingRequest
from imgservice.http.response import Response, json_response
from imgservice.http.route import shows
from imgservice.http.routing import ApiApp

FIXED: Mapping[str, Schema] = {
    "member": MEMBER,
    "members": MEMBERS,
    "task": TASK,
    "tasks": TASKS,
    **METADEFS,
}
"""The schemas that depend on no configuration, by their paths."""


def routes(app: ApiApp, find_schemas: Callable[[], ImageSchemas]) -> None:
    _schema_route(app, "image", lambda: json_response(200, find_schemas().image))
    _schema_route(app, "images", lambda: json_response(200, find_schemas().images))
    for path, document in FIXED.items():
        _schema_route(app, path, partial(_same, json_response(200, document)))


def _same(answer: Response) -> Response:
    return answer


def _schema_route(app: ApiApp, path: str, answer: Callable[[], Response]) -> None:
    about = shows(f"Show the JSON schema {path}.")

    @app.route(f"/schemas/{path}", methods=["GET"], endpoint=f"schema_{path}", about=about)
    async def schema(request: StreamingRequest) -> Response:
        return answer()
