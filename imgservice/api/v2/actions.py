"""Routes that switch an image off and on: /v2/images/{id}/actions."""

from imgservice.http.request import StreamingRequest
from imgservice.http.response import Response, no_content
from imgservice.http.route import NOTHING, RouteInfo
from imgservice.http.routing import ApiApp
from imgservice.service.images import ImageService

DEACTIVATE = RouteInfo("Let only administrators download an image.", {204: NOTHING})
REACTIVATE = RouteInfo("Let everybody who may see an image download it again.", {204: NOTHING})


def routes(app: ApiApp, images: ImageService) -> None:
    @app.route("/images/<image_id>/actions/deactivate", methods=["POST"], about=DEACTIVATE)
    async def deactivate(request: StreamingRequest, image_id: str) -> Response:
        await images.deactivate(request.context, image_id)
        return no_content()

    @app.route("/images/<image_id>/actions/reactivate", methods=["POST"], about=REACTIVATE)
    async def reactivate(request: StreamingRequest, image_id: str) -> Response:
        await images.reactivate(request.context, image_id)
        return no_content()
