"""Routes of discovery, what a client can learn about this service: /v2/info."""

from collections.abc import Mapping, Sequence

import attrs

from imgservice.domain.access import Access
from imgservice.domain.errors import NotFound
from imgservice.http.request import StreamingRequest
from imgservice.http.response import Document, Response, json_response
from imgservice.http.route import Route, serves, shows
from imgservice.service.quota import QuotaService


@attrs.frozen
class StoreInfo:
    """A store as clients see it."""

    id: str
    type: str
    is_default: bool
    weight: int
    is_read_only: bool = False
    description: str = ""
    details: Mapping[str, object] = attrs.field(factory=dict)
    """For administrators and other services only; without secrets."""


@attrs.frozen
class InfoRoutes:
    """Lists import methods, stores and quotas."""

    _stores: Sequence[StoreInfo] | None
    """Those that clients see; None where they see none."""
    _access: Access
    _quotas: QuotaService

    @serves(Route("GET", "/info/import", shows("List the import methods.")))
    async def show_import_methods(self, request: StreamingRequest) -> Response:
        methods = {"description": "Import methods available.", "type": "array", "value": []}
        return json_response(200, {"import-methods": methods})

    @serves(Route("GET", "/info/stores", shows("List the stores.")))
    async def list_stores(self, request: StreamingRequest) -> Response:
        return json_response(200, {"stores": [_store(one) for one in self._visible()]})

    @serves(
        Route(
            "GET",
            "/info/stores/detail",
            shows("List the stores in detail."),
            rules=("stores_info_detail",),
        )
    )
    async def list_stores_in_detail(self, request: StreamingRequest) -> Response:
        found = self._visible()
        self._access.require_general(request.context, "stores_info_detail")
        return json_response(200, {"stores": [_store_in_detail(one) for one in found]})

    @serves(Route("GET", "/info/usage", shows("Show quotas and usage.")))
    async def show_usage(self, request: StreamingRequest) -> Response:
        return json_response(200, {"usage": await self._quotas.usage(request.context)})

    def _visible(self) -> Sequence[StoreInfo]:
        if self._stores is None:
            raise NotFound("Multi backend is not supported at this site.")
        return self._stores


def _store(store: StoreInfo) -> Document:
    """Return the public part; flags are strings, since that is what clients compare with."""
    document: Document = {"id": store.id}
    if store.description:
        document["description"] = store.description
    if store.is_default:
        document["default"] = "true"
    if store.is_read_only:
        document["read-only"] = "true"
    return document


def _store_in_detail(store: StoreInfo) -> Document:
    return {
        **_store(store),
        "type": store.type,
        "properties": store.details,
        "weight": store.weight,
    }
