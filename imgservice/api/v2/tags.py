"""Routes of one tag of an image: /v2/images/{id}/tags/{tag}."""

from collections.abc import Callable

from imgservice.api.v2.json_schemas.image_schemas import ImageSchemas
from imgservice.http.request import StreamingRequest
from imgservice.http.response import Response, no_content
from imgservice.http.route import NOTHING, RouteInfo
from imgservice.http.routing import ApiApp
from imgservice.service.images import ImageService

ADD = RouteInfo("Give an image a tag.", {204: NOTHING}, errors=(413,))
REMOVE = RouteInfo("Take a tag from an image.", {204: NOTHING})


def routes(app: ApiApp, images: ImageService, find_schemas: Callable[[], ImageSchemas]) -> None:
    @app.route("/images/<image_id>/tags/<tag>", methods=["PUT"], about=ADD)
    async def add_tag(request: StreamingRequest, image_id: str, tag: str) -> Response:
        find_schemas().check_part({"tags": [tag]})
        await images.add_tag(request.context, image_id, tag)
        return no_content()

    @app.route("/images/<image_id>/tags/<tag>", methods=["DELETE"], about=REMOVE)
    async def delete_tag(request: StreamingRequest, image_id: str, tag: str) -> Response:
        await images.remove_tag(request.context, image_id, tag)
        return no_content()
