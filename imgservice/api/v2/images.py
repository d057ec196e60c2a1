"""Routes of image records: /v2/images and /v2/images/{id}."""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from urllib.parse import quote

import attrs

from imgservice.api.forwarding import Forwarder
from imgservice.api.v2.documents import ImageDocuments, new_image
from imgservice.api.v2.listing import Paging, image_query, links, parse_query
from imgservice.api.v2.patches import READERS, operations_of, reader_of
from imgservice.domain.limits import ImageLimits
from imgservice.domain.names import LOCATIONS
from imgservice.domain.patch import Operation
from imgservice.http.request import StreamingRequest
from imgservice.http.response import Response, json_response, no_content
from imgservice.http.route import (
    NOTHING,
    Body,
    Cost,
    Documentation,
    Route,
    json_of,
    named,
    serves,
)
from imgservice.http.routing import read_json
from imgservice.http.throttle import Transfers
from imgservice.service.images import ImageService

_TEXT = {"type": "string"}
_COUNT = {"type": "integer", "minimum": 0}
LIST = Documentation(
    "List the images that the caller may see.",
    {200: json_of("images")},
    query={
        "limit": _COUNT,
        "marker": _TEXT,
        "sort": _TEXT,
        "sort_key": _TEXT,
        "sort_dir": {"enum": ["asc", "desc"]},
        "name": _TEXT,
        "status": _TEXT,
        "visibility": {"enum": ["public", "private", "shared", "community", "all"]},
        "member_status": {"enum": ["accepted", "pending", "rejected", "all"]},
        "owner": _TEXT,
        "tag": _TEXT,
        "os_hidden": {"enum": ["true", "false"]},
        "protected": {"enum": ["true", "false"]},
        "disk_format": _TEXT,
        "container_format": _TEXT,
        "size_min": _COUNT,
        "size_max": _COUNT,
        "created_at": _TEXT,
        "updated_at": _TEXT,
    },
)
CREATE = Documentation(
    "Create an image without data.",
    {201: json_of("image")},
    errors=(409, 413),
    body=json_of("image"),
)
SHOW = Documentation(
    "Show an image.",
    {200: json_of("image"), 304: NOTHING},
    errors=(412,),
    headers=("If-Match", "If-None-Match"),
)
CHANGE = Documentation(
    "Change fields and custom properties of an image.",
    {200: json_of("image")},
    errors=(409, 412, 413, 415),
    body={type_: named("json_patch") for type_ in READERS},
    headers=("If-Match",),
)
DELETE = Documentation(
    "Delete an image and its data.",
    {204: NOTHING},
    errors=(409, 412),
    headers=("If-Match",),
)
_VISIBILITY = ("publicize_image", "communitize_image")


@attrs.frozen
class ImageRoutes:
    """Lists, creates, shows, changes and deletes images."""

    _images: ImageService
    _documents: ImageDocuments
    _paging: Paging
    _limits: ImageLimits
    _forwarder: Forwarder
    _transfers: Transfers
    _store_ids: Sequence[str] = ()
    """The stores that clients see."""
    _public_url: str | None = None

    @serves(Route("GET", "/images", LIST, rules=("get_images",), body=Body.IGNORED))
    async def list_images(self, request: StreamingRequest) -> Response:
        """List images; a body is ignored, as in Glance."""
        pairs = parse_query(request.uri.partition(b"?")[2])
        query = image_query(pairs, request.context, self._paging)
        with await request.room(query.most_bytes):
            page = await self._images.list(request.context, query)
            return json_response(
                200,
                {
                    "images": self._documents.documents(request.context, page.images),
                    **links(pairs, page.last),
                    "schema": "/v2/schemas/images",
                },
            )

    @serves(
        Route(
            "POST",
            "/images",
            CREATE,
            rules=("add_image", *_VISIBILITY),
            body=Body.JSON,
            cost=Cost.CREATE,
        )
    )
    async def create_image(self, request: StreamingRequest) -> Response:
        wanted = new_image(await read_json(request), self._documents.schemas)
        image = await self._images.create(request.context, wanted)
        location = f"{self._public_url or request.url_base()}/v2/images/{image.id}"
        return self._documents.response(201, request, image, Location=location, **self._stores())

    @serves(Route("GET", "/images/<image_id>", SHOW, rules=("get_image",)))
    async def show_image(self, request: StreamingRequest, image_id: str) -> Response:
        return self._documents.shown(request, await self._images.show(request.context, image_id))

    @serves(
        Route(
            "PATCH",
            "/images/<image_id>",
            CHANGE,
            rules=("modify_image", "set_image_location", "delete_image_location", *_VISIBILITY),
            body=Body.JSON,
            cost=Cost.CREATE,
        )
    )
    async def update_image(self, request: StreamingRequest, image_id: str) -> Response:
        reader = reader_of(request.header("content-type"))
        document = await read_json(request)
        operations = operations_of(reader, document, self._documents.schemas, self._limits)
        unless = self._documents.unchanged(request)
        upload = self._transfers.upload
        with upload(request.context) if _reads_data(operations) else nullcontext():
            image = await self._images.update(request.context, image_id, operations, unless)
        return self._documents.response(200, request, image)

    @serves(Route("DELETE", "/images/<image_id>", DELETE, rules=("delete_image",)))
    async def delete_image(self, request: StreamingRequest, image_id: str) -> Response:
        path = f"/v2/images/{quote(image_id, safe='')}"
        await self._images.delete(
            request.context,
            image_id,
            self._documents.unchanged(request),
            self._forwarder.of(request, path),
        )
        return no_content()

    def _stores(self) -> Mapping[str, str]:
        """Return the header that names the stores, where clients see any."""
        ids = ",".join(self._store_ids)
        return {"OpenStack-image-store-ids": ids} if ids else {}


def _reads_data(operations: Sequence[Operation]) -> bool:
    """Tell whether data is read from the locations that the operations name, as in an upload."""
    return any(each.name == LOCATIONS and each.verb != "remove" for each in operations)
