"""Routes of the copies in single stores: /v2/stores/{store}/{id}."""

import attrs

from imgservice.http.request import StreamingRequest
from imgservice.http.response import Response, no_content
from imgservice.http.route import NOTHING, Documentation, Route, serves
from imgservice.service.store_copies import StoreCopyService

REMOVE = Documentation(
    "Remove the copy of an image's data from one store.", {204: NOTHING}, errors=(409,)
)


@attrs.frozen
class StoreRoutes:
    """Removes copies."""

    _copies: StoreCopyService

    @serves(
        Route(
            "DELETE",
            "/stores/<store_id>/<image_id>",
            REMOVE,
            rules=("delete_image_location", "get_image_location"),
        )
    )
    async def remove_copy(
        self, request: StreamingRequest, store_id: str, image_id: str
    ) -> Response:
        await self._copies.remove(request.context, store_id, image_id)
        return no_content()
