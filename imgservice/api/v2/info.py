"""Discovery, what a client can find out about this service: /v2/info."""

from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from imgservice.domain.access import Access
from imgservice.domain.errors import NotFound
from imgservice.http.request import StreamingRequest
from imgservice.http.response import Response, json_response
from imgservice.http.route import shows
from imgservice.http.routing import ApiApp
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


def routes(
    app: ApiApp, stores: Sequence[StoreInfo] | None, access: Access, quotas: QuotaService
) -> None:
    """Add them; `stores` are those that clients see, None where they see none."""

    @app.route(
        "/info/import",
        methods=["GET"],
        about=shows("List the import methods."),
    )
    async def show_import_methods(request: StreamingRequest) -> Response:
        methods = {"description": "Import methods available.", "type": "array", "value": []}
        return json_response(200, {"import-methods": methods})

    @app.route("/info/stores", methods=["GET"], about=shows("List the stores."))
    async def list_stores(request: StreamingRequest) -> Response:
        return json_response(200, {"stores": [_store(one) for one in _visible(stores)]})

    @app.route(
        "/info/stores/detail",
        methods=["GET"],
        about=shows("List the stores in detail."),
    )
    async def list_stores_in_detail(request: StreamingRequest) -> Response:
        found = _visible(stores)
        access.require_general(request.context, "stores_info_detail")
        return json_response(200, {"stores": [_store_in_detail(one) for one in found]})

    @app.route(
        "/info/usage",
        methods=["GET"],
        about=shows("Show quotas and usage."),
    )
    async def show_usage(request: StreamingRequest) -> Response:
        return json_response(200, {"usage": await quotas.usage(request.context)})


def _visible(stores: Sequence[StoreInfo] | None) -> Sequence[StoreInfo]:
    if stores is None:
        raise NotFound("Multi backend is not supported at this site.")
    return stores


def _store(store: StoreInfo) -> dict[str, Any]:
    """Return the public part; what is true is a string, for the clients that compare with one."""
    document = {"id": store.id}
    if store.description:
        document["description"] = store.description
    if store.is_default:
        document["default"] = "true"
    if store.is_read_only:
        document["read-only"] = "true"
    return document


def _store_in_detail(store: StoreInfo) -> dict[str, Any]:
    return {
        **_store(store),
        "type": store.type,
        "properties": store.details,
        "weight": store.weight,
    }
