"""From the configuration to a site: the one place that knows every class."""

from collections.abc import Callable, Mapping, Sequence
from ipaddress import ip_network
from typing import Any, TypeVar

import attrs

from imgservice.config import OptionError
from imgservice.db.database import Database
from imgservice.db.images import Images
from imgservice.db.members import Members
from imgservice.db.open import open_database
from imgservice.digests import Digests
from imgservice.domain.context import Context
from imgservice.domain.formats import FormatRules
from imgservice.domain.limits import ImageLimits
from imgservice.domain.locations import LocationRules
from imgservice.domain.targets import Refused, TargetRules, read_host
from imgservice.fetch import Fetcher
from imgservice.options import Config
from imgservice.process.holder import ProcessHolder
from imgservice.service.data import DataRules, DataService
from imgservice.service.images import ImageService
from imgservice.service.locations import LocationOptions, LocationService
from imgservice.service.members import MemberService
from imgservice.store import registry
from imgservice.store.choose import Stores
from imgservice.store.interface import Store
from imgservice.threads import Threads
from imgservice.web import openapi
from imgservice.web.addresses import networks
from imgservice.web.app import ApiApp, Tasks
from imgservice.web.pipeline import Pipeline, Step
from imgservice.web.send import Turns
from imgservice.web.steps.auth_token import EverybodyIs, TrustedHeaders
from imgservice.web.steps.context import RequireContext
from imgservice.web.steps.cors import Cors
from imgservice.web.steps.proxy_headers import ProxyHeaders
from imgservice.web.steps.request_id import RequestId
from imgservice.web.steps.version import VersionNegotiation
from imgservice.web.streaming import StreamingRequest, StreamingSite
from imgservice.web.tree import Healthcheck, Root, Versions
from imgservice.web.v2 import actions as action_routes
from imgservice.web.v2 import data as data_routes
from imgservice.web.v2 import images as image_routes
from imgservice.web.v2 import info as info_routes
from imgservice.web.v2 import locations as location_routes
from imgservice.web.v2 import members as member_routes
from imgservice.web.v2 import schemas as schema_routes
from imgservice.web.v2 import tags as tag_routes
from imgservice.web.v2.documents import ImageDocuments
from imgservice.web.v2.info import StoreInfo
from imgservice.web.v2.listing import Paging
from imgservice.web.v2.schema_file import SchemaFileError, read_custom_properties
from imgservice.web.v2.schemas import ImageSchemas

T = TypeVar("T")


@attrs.frozen
class Built:
    """A site, and what must be started, stopped or asked beside it."""

    site: StreamingSite
    data: DataService
    database: Database
    threads: Threads
    tasks: Tasks


class LoggingSite(StreamingSite):
    """A site that hands every finished request to the access log."""

    def __init__(self, access: Callable[[StreamingRequest], None] | None, **options: Any) -> None:
        super().__init__(**options)
        self._access = access

    def log(self, request: Any) -> None:
        if self._access is not None:
            self._access(request)


def build(
    config: Config,
    reactor: Any,
    access: Callable[[StreamingRequest], None] | None = None,
) -> Built:
    """Make everything, start nothing."""
    threads = Threads(reactor, config.transfer.threads, "data")
    stores = make_stores(config, threads, make_fetcher(config, reactor))
    database = open_database(config.database.url.reveal(), config.database.threads, reactor)
    images = Images(database)
    chosen = Stores(
        stores,
        config.default_store,
        {id_: one.options.weight for id_, one in config.stores.items()},
    )
    data = DataService(
        images,
        chosen,
        ProcessHolder(),
        _data_rules(config),
        lambda window: Digests(threads, config.hash.algorithm, window),
    )
    tasks = Tasks()
    limits = _limits(config)
    locations = LocationService(
        images,
        data,
        chosen,
        LocationRules(config.hash.algorithm, limits),
        LocationOptions(
            config.locations.show, config.locations.secure_hash, config.limits.image_size
        ),
    )
    service = ImageService(images, data, limits, locations)
    members = MemberService(images, Members(database), limits)
    documents = ImageDocuments(
        make_schemas(config), chosen.order, config.locations.show, config.locations.direct_url
    )
    turns = Turns(reactor)
    v2 = _v2(config, tasks, service, members, data, threads, turns, documents, locations)
    pipeline = Pipeline(make_steps(config), Versions({"v2": v2.resource()}))
    site = _site(
        config, reactor, Root(pipeline, Healthcheck(config.healthcheck.disable_by_file)), access
    )
    return Built(site, data, database, threads, tasks)


def _limits(config: Config) -> ImageLimits:
    limits = config.limits
    return ImageLimits(limits.properties, limits.tags, limits.members, limits.locations)


def make_stores(config: Config, threads: Threads, fetcher: Fetcher) -> dict[str, Store]:
    stores = {}
    for store_id, entry in config.stores.items():
        driver = registry.driver(entry.type)
        more = {"fetcher": fetcher} if driver.fetches else {}
        stores[store_id] = driver.create(store_id, entry.options, threads, **more)
    return stores


def make_fetcher(config: Config, reactor: Any) -> Fetcher:
    return Fetcher(reactor, make_target_rules(config))


def make_target_rules(config: Config) -> TargetRules:
    """Make the rules for what may be fetched; `OptionError` for a host or network that is none."""
    options = config.import_.filter
    for name in ("allowed_hosts", "disallowed_hosts"):
        for position, host in enumerate(getattr(options, name)):
            _checked(("import", "filter", name, position), host, read_host)
    return TargetRules(
        allowed_schemes=options.allowed_schemes,
        disallowed_schemes=options.disallowed_schemes,
        allowed_hosts=options.allowed_hosts,
        disallowed_hosts=options.disallowed_hosts,
        allowed_ports=options.allowed_ports,
        disallowed_ports=options.disallowed_ports,
        private=options.private,
        exempt=[
            _checked(("import", "filter", "cidrs", position), text, ip_network)
            for position, text in enumerate(options.cidrs)
        ],
    )


def _checked(path: Sequence[str | int], text: str, read: Callable[[str], T]) -> T:
    try:
        return read(text)
    except (ValueError, Refused):
        what = "a network, such as 127.0.0.1/32" if read is ip_network else "a host"
        raise OptionError(path, f"expected {what}, got {text!r}") from None


def _data_rules(config: Config) -> DataRules:
    formats = config.formats
    return DataRules(
        image_size=config.limits.image_size,
        formats=FormatRules(
            formats.require_match, formats.vmdk_types, formats.gpt_safety_checks_nonfatal
        ),
        window=config.transfer.window,
        memory=config.transfer.memory,
    )


def _v2(
    config: Config,
    tasks: Tasks,
    images: ImageService,
    members: MemberService,
    data: DataService,
    threads: Threads,
    turns: Turns,
    documents: ImageDocuments,
    locations: LocationService,
) -> ApiApp:
    app = ApiApp(tasks)
    image_routes.routes(
        app,
        images,
        documents,
        Paging(config.api.page_default, config.api.page_max),
        config.api.max_body,
        ",".join(config.stores),
        config.server.public_url,
    )
    data_routes.routes(app, data, threads, turns)
    location_routes.routes(app, locations, config.api.max_body)
    schemas = documents.schemas
    tag_routes.routes(app, images, schemas)
    action_routes.routes(app, images)
    member_routes.routes(app, members, config.api.max_body)
    schema_routes.routes(app, schemas)
    info_routes.routes(app, _store_infos(config))
    openapi.routes(app, schemas.referred())
    return app


def make_schemas(config: Config) -> ImageSchemas:
    """Make the schemas of images; `OptionError` when the operator's own part cannot be used."""
    try:
        custom = read_custom_properties(config.api.schema_file)
    except SchemaFileError as error:
        raise OptionError(("api", "schema_file"), str(error)) from None
    return ImageSchemas(config.formats.disk, config.formats.container, custom)


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


def make_steps(config: Config) -> Sequence[Step]:
    """Make the steps that the configuration lists, in its order."""
    makers: Mapping[str, Callable[[], Step]] = {
        "proxy_headers": lambda: ProxyHeaders(networks(config.server.trusted_proxies)),
        "cors": lambda: Cors(
            config.cors.allowed_origins, config.cors.allow_credentials, config.cors.max_age
        ),
        "request_id": lambda: RequestId(config.api.max_request_id),
        "version": lambda: VersionNegotiation(config.server.public_url, config.api.max_version),
        "auth_token": lambda: _authentication(config),
        "context": lambda: RequireContext(config.auth.anonymous_read),
    }
    return [makers[name]() for name in config.pipeline]


def _authentication(config: Config) -> Step:
    if config.auth.mode == "trusted_headers":
        return TrustedHeaders(networks(config.auth.trusted_headers.from_))
    everybody = config.auth.none
    roles = frozenset(role.lower() for role in everybody.roles)
    return EverybodyIs(Context(everybody.user, everybody.project, roles, "admin" in roles))


def _site(
    config: Config,
    reactor: Any,
    root: Root,
    access: Callable[[StreamingRequest], None] | None,
) -> StreamingSite:
    server = config.server
    return LoggingSite(
        access,
        resource=root,
        reactor=reactor,
        idle_timeout=server.idle_timeout,
        header_timeout=server.header_timeout,
        max_header_line=server.max_header_line,
        max_headers_size=server.max_headers_size,
        max_headers=server.max_headers,
    )
