"""Routes of the locations of an image's data: /v2/images/{id}/locations."""

from functools import partial

import attrs

from imgservice.api.v2.documents import ImageDocuments
from imgservice.domain.documents import Json
from imgservice.domain.errors import Invalid
from imgservice.domain.locations import NewLocation, read_location
from imgservice.http.request import StreamingRequest
from imgservice.http.response import Response, json_response
from imgservice.http.route import (
    NOTHING,
    Body,
    Cost,
    Documentation,
    Route,
    json_object,
    serves,
)
from imgservice.http.routing import read_json
from imgservice.http.throttle import Transfers, while_connected
from imgservice.service.locations import LocationService

PATH = "/images/<image_id>/locations"
_VALIDATED = frozenset(("os_hash_algo", "os_hash_value"))
_TEXT = {"type": "string"}
ADD = Documentation(
    "Register data at a URL as the data of an image.",
    {202: NOTHING},
    errors=(409, 410, 413),
    body=json_object(
        "url",
        url=_TEXT,
        validation_data={
            "type": "object",
            "properties": {"os_hash_algo": _TEXT, "os_hash_value": _TEXT},
        },
    ),
)
_LOCATION = {
    "type": "object",
    "properties": {"url": _TEXT, "metadata": {"type": "object"}},
    "required": ["url", "metadata"],
}
SHOW = Documentation(
    "List the locations of an image's data.",
    {200: {"application/json": {"type": "array", "items": _LOCATION}}},
)


@attrs.frozen
class LocationRoutes:
    """Adds and lists locations."""

    _locations: LocationService
    _documents: ImageDocuments
    _transfers: Transfers

    @serves(
        Route(
            "POST",
            PATH,
            ADD,
            rules=("add_image_location",),
            body=Body.JSON,
            cost=Cost.CREATE,
        )
    )
    async def add_location(self, request: StreamingRequest, image_id: str) -> Response:
        wanted = new_location(await read_json(request))
        with self._transfers.upload(request.context):
            await self._locations.add(
                request.context, image_id, wanted, partial(while_connected, request)
            )
        return Response(202)

    @serves(Route("GET", PATH, SHOW, rules=("fetch_image_location",)))
    async def show_locations(self, request: StreamingRequest, image_id: str) -> Response:
        found = await self._locations.show(request.context, image_id)
        return json_response(200, self._documents.location_documents(request.context, found))


def new_location(document: Json) -> NewLocation:
    """Read `{"url": URL, "validation_data": {…}}`; other members are ignored."""
    if not isinstance(document, dict):
        raise Invalid("Unexpected body type. Expected a JSON object.")
    known = {name: document[name] for name in ("url", "validation_data") if name in document}
    wanted = read_location(known)
    if unknown := sorted(wanted.checksums.keys() - _VALIDATED):
        raise Invalid(f"The validation_data has no {unknown[0][:40]!r}.")
    return wanted
