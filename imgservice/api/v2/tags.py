"""Routes of one tag of an image: /v2/images/{id}/tags/{tag}."""

from collections.abc import Callable

import attrs

from imgservice.api.v2.json_schemas.image_schemas import ImageSchemas
from imgservice.http.request import StreamingRequest
from imgservice.http.response import Response, no_content
from imgservice.http.route import NOTHING, Cost, Documentation, Route, serves
from imgservice.service.images import ImageService

PATH = "/images/<image_id>/tags/<tag>"
RULES = ("modify_image",)
ADD = Documentation("Add a tag to an image.", {204: NOTHING}, errors=(413,))
REMOVE = Documentation("Remove a tag from an image.", {204: NOTHING})


@attrs.frozen
class TagRoutes:
    """Adds and removes tags."""

    _images: ImageService
    _find_schemas: Callable[[], ImageSchemas]

    @serves(Route("PUT", PATH, ADD, rules=RULES, cost=Cost.CREATE))
    async def add_tag(self, request: StreamingRequest, image_id: str, tag: str) -> Response:
        self._find_schemas().check_part({"tags": [tag]})
        await self._images.add_tag(request.context, image_id, tag)
        return no_content()

    @serves(Route("DELETE", PATH, REMOVE, rules=RULES))
    async def delete_tag(self, request: StreamingRequest, image_id: str, tag: str) -> Response:
        await self._images.remove_tag(request.context, image_id, tag)
        return no_content()
