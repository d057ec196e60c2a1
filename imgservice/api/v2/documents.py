"""Images as JSON documents: those that we send, and those that clients send."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import Any

import attrs
import orjson

from imgservice.api.v2.json_schemas.custom import to_text
from imgservice.api.v2.json_schemas.image_schemas import ImageSchemas
from imgservice.domain.context import Context
from imgservice.domain.documents import Json, JsonObject
from imgservice.domain.errors import Forbidden, Invalid
from imgservice.domain.image import (
    OLD_STORE,
    Image,
    Location,
    Precondition,
    Status,
    Visibility,
)
from imgservice.domain.names import (
    DETECTED_FORMAT,
    HASH_HOST,
    IMAGE_FIELDS,
    STAGE_HOST,
)
from imgservice.domain.new_image import NewImage
from imgservice.domain.protections import PropertyRules
from imgservice.http.conditional import Validators, check_unchanged, is_known, not_modified
from imgservice.http.request import StreamingRequest
from imgservice.http.response import Document, Response, json_response, json_text

HIDDEN_PROPERTIES = (STAGE_HOST, HASH_HOST)
"""Notes between nodes, which nobody is shown."""
HIDDEN_FROM_USERS = (*HIDDEN_PROPERTIES, DETECTED_FORMAT)
"""What only administrators may be shown."""


@attrs.frozen
class ImageDocuments:
    """Makes the documents of images, with what the configuration lets them show."""

    find_schemas: Callable[[], ImageSchemas]
    """Returns the current schemas: the operator's part may change."""
    property_rules: Callable[[], PropertyRules]
    """Returns the current rules of which custom properties a caller may read."""
    order: Callable[[Sequence[Location]], Sequence[Location]]
    """Sorts locations; the one to be read first comes first."""
    store_of: Callable[[Location], str | None]
    """Returns the id of the store that has a location, where clients may see it."""
    locations: bool = False
    """Whether `locations` is shown, with the URLs of the data in the stores."""
    direct_url: bool = False
    """Whether the URL of the first of them is shown as `direct_url`."""

    @property
    def schemas(self) -> ImageSchemas:
        return self.find_schemas()

    def response(
        self, status: int, request: StreamingRequest, image: Image, **headers: str
    ) -> Response:
        """Return a response with the image, its entity tag and the headers of the route."""
        document = self.document(request.context, image)
        return json_response(status, document, ETag=entity_tag(document, image.tags), **headers)

    def shown(self, request: StreamingRequest, image: Image) -> Response:
        """Respond to a conditional request: 304 when the client has the document already."""
        response = self.response(200, request, image)
        current = Validators(response.headers["ETag"])
        check_unchanged(request, current)
        if not is_known(request, current):
            return response
        return attrs.evolve(not_modified(current), content_type=response.content_type)

    def unchanged(self, request: StreamingRequest) -> Precondition | None:
        """Return the check that the image is still what If-Match names; None without If-Match."""
        if request.header("if-match") is None:
            return None

        def check(image: Image) -> None:
            check_unchanged(request, Validators(self.entity_tag(request.context, image)))

        return check

    def entity_tag(self, context: Context, image: Image) -> str:
        """Return the entity tag of the image as the caller sees it."""
        return entity_tag(self.document(context, image), image.tags)

    def documents(self, context: Context, images: Sequence[Image]) -> Sequence[Document]:
        """Return the documents of the images of a list."""
        return [self.document(context, image) for image in images]

    def document(self, context: Context, image: Image) -> Document:
        """Return the image as JSON has it; custom properties are members of the object itself."""
        document = self._custom_properties(context, image)
        _add_record(document, image)
        locations = _visible_locations(context, image)
        self._add_locations(context, document, locations)
        path = f"/v2/images/{image.id}"
        document.update(tags=image.tags, self=path, file=f"{path}/file", schema="/v2/schemas/image")
        if stores := ",".join(filter(None, map(self.store_of, locations))):
            document["stores"] = stores
        return document

    def _custom_properties(self, context: Context, image: Image) -> Document:
        to_json = self.schemas.to_json
        readable = self.property_rules().readable(context, image.properties)
        hidden = HIDDEN_PROPERTIES if context.is_admin else HIDDEN_FROM_USERS
        return {
            name: to_json(name, value) for name, value in readable.items() if name not in hidden
        }

    def _add_locations(
        self, context: Context, document: Document, locations: Sequence[Location]
    ) -> None:
        if self.locations:
            document["locations"] = self.location_documents(context, locations)
        if self.direct_url and locations:
            document["direct_url"] = _shown_url(context, self.order(locations)[0])

    def location_documents(
        self, context: Context, locations: Sequence[Location]
    ) -> Sequence[Document]:
        """Return the documents of locations."""
        return [
            {"url": _shown_url(context, one), "metadata": self._metadata(one)} for one in locations
        ]

    def _metadata(self, location: Location) -> Mapping[str, object]:
        """Return the metadata with the store's current id, even if it was never recorded."""
        store = self.store_of(location)
        if store is None or "store" in location.metadata:
            return dict(location.metadata)
        rest = {name: value for name, value in location.metadata.items() if name != OLD_STORE}
        return {**rest, "store": store}


def _add_record(document: Document, image: Image) -> None:
    document.update(
        name=image.name,
        disk_format=image.disk_format,
        container_format=image.container_format,
        visibility=image.visibility,
        size=image.size,
        virtual_size=image.virtual_size,
        status=image.status,
        checksum=image.checksum,
        protected=image.protected,
        min_ram=image.min_ram,
        min_disk=image.min_disk,
        owner=image.owner,
        os_hidden=image.os_hidden,
        os_hash_algo=image.os_hash_algo,
        os_hash_value=image.os_hash_value,
        id=image.id,
        created_at=image.created_at,
        updated_at=image.updated_at,
    )


def _visible_locations(context: Context, image: Image) -> Sequence[Location]:
    """Return the locations, which of a deactivated image only administrators may see."""
    if image.status is Status.DEACTIVATED and not context.is_admin:
        return ()
    return image.locations


def _shown_url(context: Context, location: Location) -> str:
    return location.url if context.is_admin else location.public_url


def entity_tag(document: Document, tags: Iterable[str]) -> str:
    """Return a strong entity tag of an image's document, whose tags may be in any order.

    It depends on the content alone, so every node and every database makes the same one. An image
    that changes and changes back has its old tag again.
    """
    in_order = {**document, "tags": sorted(tags)}
    text = json_text(in_order, orjson.OPT_SORT_KEYS)
    return f'"{blake2b(text, digest_size=16).hexdigest()}"'


def new_image(document: Json, schemas: ImageSchemas) -> NewImage:
    """Read the document of a create request; `Invalid` or `Forbidden` name the wrong member."""
    if not isinstance(document, dict):
        raise Invalid("Unexpected body type. Expected a JSON object.")
    _check_writable(document, schemas)
    schemas.check(document)
    checked: Mapping[str, Any] = document  # the schema has checked the types
    fields = {name: checked[name] for name in IMAGE_FIELDS if name in checked}
    if "visibility" in fields:
        fields["visibility"] = Visibility(fields["visibility"])
    properties = {
        name: to_text(value) for name, value in checked.items() if name not in IMAGE_FIELDS
    }
    ownerless = "owner" in document and document["owner"] is None
    return NewImage(**fields, ownerless=ownerless, properties=properties)


def _check_writable(document: JsonObject, schemas: ImageSchemas) -> None:
    for name in document:
        if name in schemas.read_only:
            raise Forbidden(f"Attribute '{name}' is read-only.")
