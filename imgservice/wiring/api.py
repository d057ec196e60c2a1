"""Makes each version of the API from the services."""

from collections.abc import Callable, Sequence
from pathlib import Path

from imgservice.api.acceleration import Acceleration
from imgservice.api.forwarding import Forwarder
from imgservice.api.openapi import OpenApiRoutes
from imgservice.api.v2.actions import ActionRoutes
from imgservice.api.v2.data import DataRoutes
from imgservice.api.v2.documents import ImageDocuments
from imgservice.api.v2.images import ImageRoutes
from imgservice.api.v2.info import InfoRoutes, StoreInfo
from imgservice.api.v2.json_schemas.image_schemas import ImageSchemas
from imgservice.api.v2.json_schemas.schema_file import read_custom_properties
from imgservice.api.v2.listing import Paging
from imgservice.api.v2.locations import LocationRoutes
from imgservice.api.v2.members import MemberRoutes
from imgservice.api.v2.schemas import SchemaRoutes
from imgservice.api.v2.stores import StoreRoutes
from imgservice.api.v2.table import ROUTES
from imgservice.api.v2.tags import TagRoutes
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
from imgservice.wiring.watched import watched_file


def make_v2(
    config: Config,
    services: Services,
    access: Access,
    property_rules: Callable[[], PropertyRules],
    stores: Stores,
    tasks: Tasks,
    sender: Sender,
    transfers: Transfers,
    forwarder: Forwarder,
) -> ApiApp:
    """Make version 2 of the API."""
    find_schemas = make_schemas(config)
    documents = _documents(config, find_schemas, property_rules, stores)
    infos = None if config.single_store else _store_infos(config)
    nouns = [
        _image_routes(config, services, documents, forwarder, transfers),
        DataRoutes(services.uploads, services.reading, sender, transfers, _acceleration(config)),
        LocationRoutes(services.locations, documents, transfers),
        StoreRoutes(services.store_copies),
        TagRoutes(services.images, find_schemas),
        ActionRoutes(services.images),
        MemberRoutes(services.members),
        SchemaRoutes(find_schemas),
        InfoRoutes(infos, access, services.quotas),
        OpenApiRoutes(find_schemas, ROUTES),
    ]
    return ApiApp(tasks, nouns, config.api.max_body)


def _documents(
    config: Config,
    find_schemas: Callable[[], ImageSchemas],
    property_rules: Callable[[], PropertyRules],
    stores: Stores,
) -> ImageDocuments:
    return ImageDocuments(
        find_schemas,
        property_rules,
        stores.order,
        stores.shown_id,
        config.locations.show,
        config.locations.direct_url,
    )


def _image_routes(
    config: Config,
    services: Services,
    documents: ImageDocuments,
    forwarder: Forwarder,
    transfers: Transfers,
) -> ImageRoutes:
    return ImageRoutes(
        services.images,
        documents,
        Paging(config.api.page_default, config.api.page_max, config.api.page_bytes),
        image_limits(config),
        forwarder,
        transfers,
        () if config.single_store else tuple(config.stores),
        config.server.public_url,
    )


def _acceleration(config: Config) -> Acceleration:
    return Acceleration(config.transfer.accel, networks(config.server.trusted_proxies))


def make_schemas(config: Config) -> Callable[[], ImageSchemas]:
    """Return what finds the current schemas of images.

    `OptionError` when the operator's file of custom properties cannot be used.
    """
    formats = config.formats
    if config.api.schema_file is None:
        schemas = ImageSchemas(formats.disk, formats.container)
        return lambda: schemas

    def read(path: Path) -> ImageSchemas:
        return ImageSchemas(formats.disk, formats.container, read_custom_properties(path))

    return watched_file(("api", "schema_file"), config.api.schema_file, read)


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
