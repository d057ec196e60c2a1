"""Routes of where the data of an image lies: /v2/images/{id}/locations."""

from functools import partial

from imgservice.api.v2.documents import ImageDocuments
from imgservice.domain.errors import Invalid
from imgservice.domain.locations import read_location
from imgservice.http.request import StreamingRequest
from imgservice.http.response import Response, json_response
from imgservice.http.route import NOTHING, RouteInfo
from imgservice.http.routing import ApiApp
from imgservice.http.throttle import Transfers, while_connected
from imgservice.service.locations import LocationService

_VALIDATED = frozenset(("os_hash_algo", "os_hash_value"))
_TEXT = {"type": "string"}
ADD = RouteInfo(
    "Give an image the data that lies at a URL.",
    {202: NOTHING},
    errors=(409, 410, 413),
    body={
        "application/json": {
            "type": "object",
            "properties": {
                "url": _TEXT,
                "validation_data": {
                    "type": "object",
                    "properties": {"os_hash_algo": _TEXT, "os_hash_value": _TEXT},
                },
            },
            "required": ["url"],
        }
    },
)
SHOW = RouteInfo(
    "Show where the data of an image lies.",
    {
        200: {
            "application/json": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {"url": _TEXT, "metadata": {"type": "object"}},
                    "required": ["url", "metadata"],
                },
            }
        }
    },
)


def routes(
    app: ApiApp,
    locations: LocationService,
    documents: ImageDocuments,
    largest_body: int,
    transfers: Transfers,
) -> None:
    @app.route("/images/<image_id>/locations", methods=["POST"], takes_body=True, about=ADD)
    async def add_location(request: StreamingRequest, image_id: str) -> Response:
        document = await request.body.json(largest_body)
        if not isinstance(document, dict):
            raise Invalid("Unexpected body type. Expected a JSON object.")
        wanted = read_location(
            {name: document[name] for name in ("url", "validation_data") if name in document}
        )
        if unknown := sorted(wanted.checksums.keys() - _VALIDATED):
            raise Invalid(f"The validation_data has no {unknown[0][:40]!r}.")
        with transfers.upload(request.context):
            await locations.add(
                request.context, image_id, wanted, partial(while_connected, request)
            )
        return Response(202)

    @app.route("/images/<image_id>/locations", methods=["GET"], about=SHOW)
    async def show_locations(request: StreamingRequest, image_id: str) -> Response:
        found = await locations.show(request.context, image_id)
        return json_response(200, documents.location_documents(request.context, found))
