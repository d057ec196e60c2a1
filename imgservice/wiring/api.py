"""From the services to the routes of each version of the API."""

from collections.abc import Callable, Sequence
from pathlib import Path

from imgservice.api import openapi
from imgservice.api.acceleration import Acceleration
from imgservice.api.forwarding import Forwarder
from imgservice.api.v2 import actions as action_routes
from imgservice.api.v2 import data as data_routes
from imgservice.api.v2 import images as image_routes
from imgservice.api.v2 import info as info_routes
from imgservice.api.v2 import locations as location_routes
from imgservice.api.v2 import members as member_routes
from imgservice.api.v2 import schemas as schema_routes
from imgservice.api.v2 import tags as tag_routes
from imgservice.api.v2.documents import ImageDocuments
from imgservice.api.v2.info import StoreInfo
from imgservice.api.v2.json_schemas.image_schemas import ImageSchemas
from imgservice.api.v2.json_schemas.schema_file import read_custom_properties
from imgservice.api.v2.listing import Paging
from imgservice.concurrency.file_watch import Unreadable, Watched
from imgservice.config.errors import OptionError
from imgservice.config.sections import Config
from imgservice.domain.access import Access
from imgservice.domain.protections import PropertyRules
from imgservice.http.networks import networks
from imgservice.http.routing import ApiApp, Tasks
from imgservice.http.sending import Sender
from imgservice.http.throttle import Transfers
from imgservice.store import registry
from imgservice.store.choose import Stores
from imgservice.wiring.services import Services, image_limits


def make_v2(
    config: Config,
    services: Services,
    access: Access,
    property_rules: Callable[[], PropertyRules],
    stores: Stores,
    tasks: Tasks,
    sender: Sender,
    transfers: Transfers,
    handover: Forwarder,
) -> ApiApp:
    documents = ImageDocuments(
        make_schemas(config),
        property_rules,
        stores.order,
        stores.shown_id,
        config.locations.show,
        config.locations.direct_url,
    )
    find_schemas, largest_body = documents.find_schemas, config.api.max_body
    app = ApiApp(tasks)
    image_routes.routes(
        app,
        services.images,
        documents,
        Paging(config.api.page_default, config.api.page_max, config.api.page_bytes),
        image_limits(config),
        largest_body,
        () if config.single_store else tuple(config.stores),
        config.server.public_url,
        handover,
        transfers,
    )
    data_routes.routes(
        app,
        services.data,
        services.reading,
        sender,
        transfers,
        Acceleration(config.transfer.accel, networks(config.server.trusted_proxies)),
    )
    location_routes.routes(app, services.locations, documents, largest_body, transfers)
    tag_routes.routes(app, services.images, find_schemas)
    action_routes.routes(app, services.images)
    member_routes.routes(app, services.members, largest_body)
    schema_routes.routes(app, find_schemas)
    info_routes.routes(
        app, None if config.single_store else _store_infos(config), access, services.quotas
    )
    openapi.routes(app, find_schemas)
    return app


def make_schemas(config: Config) -> Callable[[], ImageSchemas]:
    """Return what tells the schemas of images at present; `OptionError` when the operator's own
    part cannot be used."""
    formats = config.formats
    if config.api.schema_file is None:
        schemas = ImageSchemas(formats.disk, formats.container)
        return lambda: schemas
    path = Path(config.api.schema_file)

    def read() -> ImageSchemas:
        return ImageSchemas(formats.disk, formats.container, read_custom_properties(path))

    try:
        return Watched(lambda: [path], read)
    except Unreadable as error:
        raise OptionError(("api", "schema_file"), str(error)) from None


def _store_infos(config: Config) -> Sequence[StoreInfo]:
    return [
        StoreInfo(
            store_id,
            entry.type,
            store_id == config.default_store,
            entry.options.weight,
            registry.driver(entry.type).read_only,
            entry.options.description,
            entry.options.details(),
        )
        for store_id, entry in config.stores.items()
    ]
