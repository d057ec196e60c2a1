"""From the configuration to a site: the one place that knows every class."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs

from imgservice.config import Config
from imgservice.db.database import Database
from imgservice.db.images import Images
from imgservice.db.open import open_database
from imgservice.digests import Digests
from imgservice.domain.context import Context
from imgservice.domain.formats import FormatRules
from imgservice.process.holder import ProcessHolder
from imgservice.service.data import DataRules, DataService
from imgservice.service.images import ImageLimits, ImageService
from imgservice.store import registry
from imgservice.store.choose import Stores
from imgservice.store.interface import Store
from imgservice.threads import Threads
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
from imgservice.web.v2 import data as data_routes
from imgservice.web.v2 import images as image_routes
from imgservice.web.v2 import schemas as schema_routes
from imgservice.web.v2.listing import Paging
from imgservice.web.v2.schemas import ImageSchemas


@attrs.frozen
class Built:
    """A site, and what must be started, stopped or asked beside it."""

    site: StreamingSite
    data: DataService
    database: Database
    stores: Mapping[str, Store]
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
    stores = make_stores(config, threads)
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
    service = ImageService(images, data, ImageLimits(config.limits.properties, config.limits.tags))
    v2 = _v2(config, tasks, service, data, threads, Turns(reactor))
    pipeline = Pipeline(make_steps(config), Versions({"v2": v2.resource()}))
    site = _site(
        config, reactor, Root(pipeline, Healthcheck(config.healthcheck.disable_by_file)), access
    )
    return Built(site, data, database, stores, threads, tasks)


def make_stores(config: Config, threads: Threads) -> dict[str, Store]:
    return {
        store_id: registry.driver(entry.type).create(store_id, entry.options, threads)
        for store_id, entry in config.stores.items()
    }


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
    data: DataService,
    threads: Threads,
    turns: Turns,
) -> ApiApp:
    app = ApiApp(tasks)
    schemas = ImageSchemas(config.formats.disk, config.formats.container)
    image_routes.routes(
        app,
        images,
        schemas,
        Paging(config.api.page_default, config.api.page_max),
        config.api.max_body,
        ",".join(config.stores),
        config.server.public_url,
    )
    data_routes.routes(app, data, threads, turns)
    schema_routes.routes(app, schemas)
    return app


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
