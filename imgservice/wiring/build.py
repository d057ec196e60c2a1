"""From the configuration to a site: the one place that knows every class."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import attrs

from imgservice.api.root import Healthcheck, Root, Versions
from imgservice.concurrency.reactor import Reactor
from imgservice.concurrency.threads import Threads
from imgservice.config.errors import OptionError
from imgservice.config.sections import Config
from imgservice.db.engine.database import Database
from imgservice.db.engine.open import DatabaseLimits, open_database
from imgservice.db.engine.pool import PoolLimits
from imgservice.db.engine.url import UrlError
from imgservice.domain.access import Access, Rules
from imgservice.domain.protections import PropertyRules
from imgservice.http.limits import ServerLimits
from imgservice.http.minimum_rate import MinimumRate
from imgservice.http.pipeline import Pipeline
from imgservice.http.routing import Tasks
from imgservice.http.sending import Sender
from imgservice.http.site import StreamingSite
from imgservice.process.components import Component, OpenResource
from imgservice.process.heap import HeapTrim
from imgservice.process.probes import Probe, Probes
from imgservice.process.serving import Built
from imgservice.service.events import Listener
from imgservice.store.choose import Stores
from imgservice.store.interface import Store
from imgservice.telemetry.events import EventHub
from imgservice.telemetry.requests import request_reporter
from imgservice.troubles import Troubles
from imgservice.wiring.api import make_v2
from imgservice.wiring.authentication import Authentication, make_authentication
from imgservice.wiring.jobs import BackgroundJobs
from imgservice.wiring.limits import Limits, make_limits
from imgservice.wiring.nodes import make_forwarder, make_nodes
from imgservice.wiring.policy import log_warning, make_rules
from imgservice.wiring.probes import DATABASE, database_name, database_probe, store_probes
from imgservice.wiring.protections import make_property_rules
from imgservice.wiring.rates import make_connection_limits, make_transfers
from imgservice.wiring.services import Services, make_services
from imgservice.wiring.steps import make_steps
from imgservice.wiring.stores import close_stores, make_choice, make_stores


@attrs.frozen
class _Parts:
    """What is made once, and used by several others."""

    config: Config
    reactor: Reactor
    troubles: Troubles
    threads: Threads
    database: Database
    configured: Mapping[str, Store]
    stores: Stores
    rules: Rules
    access: Access
    property_rules: Callable[[], PropertyRules]
    limits: Limits
    authentication: Authentication
    tasks: Tasks
    events: EventHub


def build(
    config: Config,
    reactor: Reactor,
    listeners: Sequence[Listener] = (),
    troubles: Troubles | None = None,
    warn: Callable[[str], None] = log_warning,
) -> Built:
    """Make everything, start nothing; `OptionError` for what cannot be made of the configuration.

    What does not work later is reported to `troubles`; `warn` gets what may be a mistake in the
    files that the configuration names.
    """
    troubles = troubles or Troubles(reactor)
    events = EventHub(listeners, troubles)
    parts = _make_parts(config, reactor, troubles, events, warn)
    services = _services(parts)
    health = Healthcheck(config.healthcheck.disable_by_file, troubles)
    root = Root(_pipeline(parts, services), health)
    site = _site(config, reactor, root, events)
    return Built(site, health, _components(parts, services))


def _make_parts(
    config: Config,
    reactor: Reactor,
    troubles: Troubles,
    events: EventHub,
    warn: Callable[[str], None],
) -> _Parts:
    threads = Threads(reactor, config.transfer.threads, "data")
    configured = make_stores(config, threads, reactor)
    rules = make_rules(config, warn)
    return _Parts(
        config=config,
        reactor=reactor,
        troubles=troubles,
        threads=threads,
        database=_open_database(config, reactor, troubles),
        configured=configured,
        stores=make_choice(config, configured),
        rules=rules,
        access=Access(rules),
        property_rules=make_property_rules(config, rules, warn),
        limits=make_limits(config, reactor, troubles),
        authentication=make_authentication(config, reactor, troubles),
        tasks=Tasks(),
        events=events,
    )


def _services(parts: _Parts) -> Services:
    return make_services(
        parts.config,
        parts.database,
        parts.stores,
        parts.threads,
        parts.access,
        parts.property_rules,
        parts.limits.source,
        make_nodes(parts.config),
        parts.events,
    )


def _pipeline(parts: _Parts, services: Services) -> Pipeline:
    """Make the steps that a request passes, and the routes behind them."""
    config, reactor = parts.config, parts.reactor
    v2 = make_v2(
        config,
        services,
        parts.access,
        parts.property_rules,
        parts.stores,
        parts.tasks,
        Sender(reactor, parts.threads),
        make_transfers(config, reactor),
        make_forwarder(config, reactor),
    )
    steps = make_steps(config, parts.rules, parts.authentication, parts.threads)
    return Pipeline(steps, Versions({"v2": v2.resource()}))


def _components(parts: _Parts, services: Services) -> Sequence[Component]:
    """List what runs beside the site: each may use those above it, which stop after it."""
    reactor, troubles = parts.reactor, parts.troubles
    return [
        *(one for one in parts.events.all if isinstance(one, Component)),
        *parts.limits.components,
        *parts.authentication.components,
        OpenResource("threads", parts.threads.stop),
        OpenResource("database", parts.database.close),
        OpenResource("stores", lambda: close_stores(parts.configured)),
        BackgroundJobs(reactor, services.jobs, troubles),
        OpenResource("handlers", parts.tasks.ended),
        Probes(reactor, _probes(parts), troubles, parts.config.healthcheck.interval),
        HeapTrim(reactor),
    ]


def _probes(parts: _Parts) -> Sequence[Probe]:
    return [
        database_probe(parts.config, parts.database),
        *store_probes(parts.configured, parts.config.default_store, parts.troubles),
        *(parts.authentication.probes or parts.limits.probes),
    ]


def _open_database(config: Config, reactor: Reactor, troubles: Troubles) -> Database:
    url = config.database.url.reveal()
    try:
        report = partial(troubles.report, DATABASE, database_name(config))
        return open_database(url, _database_limits(config), reactor, report)
    except UrlError as error:
        raise OptionError(("database", "url"), str(error)) from None


def _database_limits(config: Config) -> DatabaseLimits:
    options = config.database
    return DatabaseLimits(
        options.threads,
        PoolLimits(
            connections=options.pool,
            timeout=options.pool_timeout,
            connect=options.connect_timeout,
            answer=options.answer_timeout,
        ),
    )


def _site(config: Config, reactor: Reactor, root: Root, events: EventHub) -> StreamingSite:
    return StreamingSite(
        root,
        reactor=reactor,
        limits=_server_limits(config),
        connection_limits=make_connection_limits(config, reactor),
        finished=request_reporter(events),
    )


def _server_limits(config: Config) -> ServerLimits:
    server = config.server
    return ServerLimits(
        keepalive=server.keepalive,
        idle_timeout=server.idle_timeout,
        header_timeout=server.header_timeout,
        max_header_line=server.max_header_line,
        max_headers_size=server.max_headers_size,
        max_headers=server.max_headers,
        minimum_rate=(
            MinimumRate(server.min_rate, server.min_rate_time) if server.min_rate else None
        ),
        answer_memory=server.answer_memory,
    )
