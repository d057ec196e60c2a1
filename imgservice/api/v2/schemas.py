"""Routes of the JSON schemas: /v2/schemas/{path}."""

from collections.abc import Callable, Mapping

from imgservice.api.v2.json_schemas.fields import Schema
from imgservice.api.v2.json_schemas.image_schemas import ImageSchemas
from imgservice.api.v2.json_schemas.members import MEMBER, MEMBERS
from imgservice.api.v2.json_schemas.metadefs import METADEFS
from imgservice.api.v2.json_schemas.tasks import TASK, TASKS
from imgservice.http.request import StreamingRequest
from imgservice.http.response import Response, json_response
from imgservice.http.route import Route, serves, shows

FIXED: Mapping[str, Schema] = {
    "member": MEMBER,
    "members": MEMBERS,
    "task": TASK,
    "tasks": TASKS,
    **METADEFS,
}
"""The schemas that depend on no configuration, by their paths."""


_IMAGE = "image"
_IMAGES = "images"


def _route(path: str) -> Route:
    return Route(
        "GET",
        f"/schemas/{path}",
        shows(f"Show the JSON schema {path}."),
        name=f"schema_{path.replace('/', '_')}",
        arguments={"path": path},
    )


class SchemaRoutes:
    """Shows the JSON schemas."""

    def __init__(self, find_schemas: Callable[[], ImageSchemas]) -> None:
        self._find_schemas = find_schemas
        self._fixed = {path: json_response(200, schema) for path, schema in FIXED.items()}

    @serves(_route(_IMAGE))
    async def show_image_schema(self, request: StreamingRequest, path: str) -> Response:
        return json_response(200, self._find_schemas().image)

    @serves(_route(_IMAGES))
    async def show_images_schema(self, request: StreamingRequest, path: str) -> Response:
        return json_response(200, self._find_schemas().images)

    @serves(*map(_route, FIXED))
    async def show_fixed_schema(self, request: StreamingRequest, path: str) -> Response:
        return self._fixed[path]
