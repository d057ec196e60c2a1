"""Routes of the image record: /v2/images and /v2/images/{id}."""

from imgservice.service.images import ImageService
from imgservice.web.app import ApiApp
from imgservice.web.respond import Answer, json_answer, no_content
from imgservice.web.streaming import StreamingRequest
from imgservice.web.v2.documents import image_document, new_image
from imgservice.web.v2.listing import Paging, image_query, links, parse_query
from imgservice.web.v2.schemas import ImageSchemas


def routes(
    app: ApiApp,
    images: ImageService,
    schemas: ImageSchemas,
    paging: Paging,
    largest_body: int,
    store_ids: str,
    public_url: str | None,
) -> None:
    @app.route("/images", methods=["GET"], takes_body=True)  # and ignores it, as Glance does
    async def list_images(request: StreamingRequest) -> Answer:
        pairs = parse_query(request.uri.partition(b"?")[2])
        query = image_query(pairs, request.context, paging)
        found = await images.list(request.context, query) if query.limit else ()
        full = query.limit > 0 and len(found) == query.limit
        document = {
            "images": [image_document(image) for image in found],
            **links(pairs, found[-1].id if full else None),
            "schema": "/v2/schemas/images",
        }
        return json_answer(200, document)

    @app.route("/images", methods=["POST"], takes_body=True)
    async def create_image(request: StreamingRequest) -> Answer:
        wanted = new_image(await request.body.json(largest_body), schemas)
        image = await images.create(request.context, wanted)
        location = f"{public_url or request.url_base()}/v2/images/{image.id}"
        return json_answer(
            201, image_document(image), Location=location, OpenStack_image_store_ids=store_ids
        )

    @app.route("/images/<image_id>", methods=["GET"])
    async def show_image(request: StreamingRequest, image_id: str) -> Answer:
        return json_answer(200, image_document(await images.show(request.context, image_id)))

    @app.route("/images/<image_id>", methods=["DELETE"])
    async def delete_image(request: StreamingRequest, image_id: str) -> Answer:
        await images.delete(request.context, image_id)
        return no_content()
