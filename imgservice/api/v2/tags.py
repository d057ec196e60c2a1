"""Routes of one tag of an image: /v2/images/{id}/tags/{tag}."""

from collections.abc import Callable

from imgservice.api.v2.documents import check_text
from imgservice.api.v2.schemas import ImageSchemas
from imgservice.http.response import Answer, no_content
from imgservice.http.route import NOTHING, About
from imgservice.http.routing import ApiApp
from imgservice.http.streaming import StreamingRequest
from imgservice.service.images import ImageService

ADD = About("Give an image a tag.", {204: NOTHING}, errors=(413,))
REMOVE = About("Take a tag from an image.", {204: NOTHING})


def routes(app: ApiApp, images: ImageService, find_schemas: Callable[[], ImageSchemas]) -> None:
    @app.route("/images/<image_id>/tags/<tag>", methods=["PUT"], about=ADD)
    async def add_tag(request: StreamingRequest, image_id: str, tag: str) -> Answer:
        part = {"tags": [tag]}
        find_schemas().check_part(part)
        check_text(part)
        await images.add_tag(request.context, image_id, tag)
        return no_content()

    @app.route("/images/<image_id>/tags/<tag>", methods=["DELETE"], about=REMOVE)
    async def delete_tag(request: StreamingRequest, image_id: str, tag: str) -> Answer:
        await images.remove_tag(request.context, image_id, tag)
        return no_content()
