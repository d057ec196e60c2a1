"""Routes that switch an image off and on: /v2/images/{id}/actions."""

from imgservice.http.response import Answer, no_content
from imgservice.http.route import NOTHING, About
from imgservice.http.routing import ApiApp
from imgservice.http.streaming import StreamingRequest
from imgservice.service.images import ImageService

DEACTIVATE = About("Let only administrators download an image.", {204: NOTHING})
REACTIVATE = About("Let everybody who may see an image download it again.", {204: NOTHING})


def routes(app: ApiApp, images: ImageService) -> None:
    @app.route("/images/<image_id>/actions/deactivate", methods=["POST"], about=DEACTIVATE)
    async def deactivate(request: StreamingRequest, image_id: str) -> Answer:
        await images.deactivate(request.context, image_id)
        return no_content()

    @app.route("/images/<image_id>/actions/reactivate", methods=["POST"], about=REACTIVATE)
    async def reactivate(request: StreamingRequest, image_id: str) -> Answer:
        await images.reactivate(request.context, image_id)
        return no_content()
