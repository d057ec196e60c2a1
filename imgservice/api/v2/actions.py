"""Routes that deactivate and reactivate an image: /v2/images/{id}/actions."""

import attrs

from imgservice.http.request import StreamingRequest
from imgservice.http.response import Response, no_content
from imgservice.http.route import NOTHING, Documentation, Route, serves
from imgservice.service.images import ImageService

DEACTIVATE = Documentation("Let only administrators download an image.", {204: NOTHING})
REACTIVATE = Documentation("Let everybody who can see an image download it again.", {204: NOTHING})


@attrs.frozen
class ActionRoutes:
    """Deactivates and reactivates images."""

    _images: ImageService

    @serves(
        Route("POST", "/images/<image_id>/actions/deactivate", DEACTIVATE, rules=("deactivate",))
    )
    async def deactivate(self, request: StreamingRequest, image_id: str) -> Response:
        await self._images.deactivate(request.context, image_id)
        return no_content()

    @serves(
        Route("POST", "/images/<image_id>/actions/reactivate", REACTIVATE, rules=("reactivate",))
    )
    async def reactivate(self, request: StreamingRequest, image_id: str) -> Response:
        await self._images.reactivate(request.context, image_id)
        return no_content()
