"""Routes of the image record: /v2/images and /v2/images/{id}."""

from collections.abc import Sequence
from contextlib import nullcontext
from urllib.parse import quote

from imgservice.api.forwarding import Forwarder
from imgservice.api.v2.documents import ImageDocuments, new_image
from imgservice.api.v2.listing import Paging, image_query, links, parse_query
from imgservice.api.v2.patches import READERS, operations_of, reader_of
from imgservice.domain.limits import ImageLimits
from imgservice.domain.patch import LOCATIONS, Operation
from imgservice.http.request import StreamingRequest
from imgservice.http.response import Response, json_response, no_content
from imgservice.http.route import NOTHING, RouteInfo, json_of, named
from imgservice.http.routing import ApiApp
from imgservice.http.throttle import Transfers
from imgservice.service.images import ImageService

_TEXT = {"type": "string"}
_COUNT = {"type": "integer", "minimum": 0}
LIST = RouteInfo(
    "List the images that one may see.",
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
CREATE = RouteInfo(
    "Create an image, which has no data yet.",
    {201: json_of("image")},
    errors=(409, 413),
    body=json_of("image"),
)
SHOW = RouteInfo(
    "Show an image.",
    {200: json_of("image"), 304: NOTHING},
    errors=(412,),
    headers=("If-Match", "If-None-Match"),
)
CHANGE = RouteInfo(
    "Change some fields and properties of an image.",
    {200: json_of("image")},
    errors=(409, 412, 413, 415),
    body={type_: named("json_patch") for type_ in READERS},
    headers=("If-Match",),
)
DELETE = RouteInfo(
    "Delete an image and its data.", {204: NOTHING}, errors=(409, 412), headers=("If-Match",)
)


def routes(
    app: ApiApp,
    images: ImageService,
    documents: ImageDocuments,
    paging: Paging,
    limits: ImageLimits,
    largest_body: int,
    store_ids: Sequence[str],
    public_url: str | None,
    handover: Forwarder,
    transfers: Transfers,
) -> None:
    """Add them; `store_ids` are those that clients see."""
    stores = {"OpenStack-image-store-ids": ",".join(store_ids)} if store_ids else {}

    @app.route("/images", methods=["GET"], takes_body=True, about=LIST)
    async def list_images(request: StreamingRequest) -> Response:
        """List images; a body is ignored, as in Glance."""
        pairs = parse_query(request.uri.partition(b"?")[2])
        query = image_query(pairs, request.context, paging)
        with await request.room(query.most_bytes):
            page = await images.list(request.context, query)
            document = {
                "images": [documents.document(request.context, image) for image in page.images],
                **links(pairs, page.last),
                "schema": "/v2/schemas/images",
            }
            return json_response(200, document)

    @app.route("/images", methods=["POST"], takes_body=True, about=CREATE)
    async def create_image(request: StreamingRequest) -> Response:
        wanted = new_image(await request.body.json(largest_body), documents.schemas)
        image = await images.create(request.context, wanted)
        location = f"{public_url or request.url_base()}/v2/images/{image.id}"
        return documents.answer(201, request, image, Location=location, **stores)

    @app.route("/images/<image_id>", methods=["GET"], about=SHOW)
    async def show_image(request: StreamingRequest, image_id: str) -> Response:
        return documents.shown(request, await images.show(request.context, image_id))

    @app.route("/images/<image_id>", methods=["PATCH"], takes_body=True, about=CHANGE)
    async def update_image(request: StreamingRequest, image_id: str) -> Response:
        reader = reader_of(request.header("content-type"))
        document = await request.body.json(largest_body)
        operations = operations_of(reader, document, documents.schemas, limits)
        unless = documents.unchanged(request)
        with transfers.upload(request.context) if _reads_data(operations) else nullcontext():
            image = await images.update(request.context, image_id, operations, unless)
        return documents.answer(200, request, image)

    @app.route("/images/<image_id>", methods=["DELETE"], about=DELETE)
    async def delete_image(request: StreamingRequest, image_id: str) -> Response:
        await images.delete(
            request.context,
            image_id,
            documents.unchanged(request),
            handover.of(request, f"/v2/images/{quote(image_id, safe='')}"),
        )
        return no_content()


def _reads_data(operations: Sequence[Operation]) -> bool:
    """Tell whether servers that the operations name are asked for data, as for an upload."""
    return any(each.name == LOCATIONS and each.verb != "remove" for each in operations)
