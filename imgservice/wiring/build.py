"""From the configuration to a site: the one place that knows every class."""

from collections.abc import Sequence

from imgservice.api.root import Healthcheck, Root, Versions
from imgservice.concurrency.reactor import Reactor
from imgservice.concurrency.threads import Threads
from imgservice.config.sections import Config
from imgservice.db.engine.database import Database
from imgservice.db.engine.open import DatabaseLimits, open_database
from imgservice.db.engine.reactor import PoolLimits
from imgservice.domain.access import Access
from imgservice.http.limits import ServerLimits
from imgservice.http.minimum_rate import MinimumRate
from imgservice.http.pipeline import Pipeline
from imgservice.http.routing import Tasks
from imgservice.http.sending import Sender
from imgservice.http.site import StreamingSite
from imgservice.process.components import Component, Resource
from imgservice.process.probes import Probes
from imgservice.process.serving import Built
from imgservice.service.events import Listener
from imgservice.telemetry.events import EventHub
from imgservice.telemetry.requests import request_reporter
from imgservice.troubles import Troubles
from imgservice.wiring.api import make_v2
from imgservice.wiring.authentication import make_authentication
from imgservice.wiring.leases import LeaseRecovery, LeaseRenewal
from imgservice.wiring.limits import make_limits
from imgservice.wiring.nodes import make_forwarder, make_nodes
from imgservice.wiring.policy import make_rules
from imgservice.wiring.probes import DATABASE, database_name, database_probe, store_probes
from imgservice.wiring.protections import make_property_rules
from imgservice.wiring.rates import make_connection_limits, make_transfers
from imgservice.wiring.services import make_services
from imgservice.wiring.steps import make_steps
from imgservice.wiring.stores import make_choice, make_fetcher, make_stores


def build(
    config: Config,
    reactor: Reactor,
    listeners: Sequence[Listener] = (),
    troubles: Troubles | None = None,
) -> Built:
    """Make everything, start nothing; what does not work is reported to `troubles`."""
    troubles = troubles or Troubles(reactor)
    events = EventHub(listeners, troubles)
    threads = Threads(reactor, config.transfer.threads, "data")
    database = _open_database(config, reactor, troubles)
    configured = make_stores(config, threads, make_fetcher(config, reactor))
    stores = make_choice(config, configured)
    rules = make_rules(config)
    access = Access(rules)
    property_rules = make_property_rules(config, rules)
    limits = make_limits(config, reactor, troubles)
    services = make_services(
        config,
        database,
        stores,
        threads,
        access,
        property_rules,
        limits.source,
        make_nodes(config),
    )
    tasks = Tasks()
    sender, transfers = Sender(reactor, threads), make_transfers(config, reactor)
    handover = make_forwarder(config, reactor)
    v2 = make_v2(
        config,
        services,
        access,
        property_rules,
        stores,
        tasks,
        sender,
        transfers,
        handover,
    )
    authentication = make_authentication(config, reactor, troubles)
    steps = make_steps(config, rules, authentication, threads)
    pipeline = Pipeline(steps, Versions({"v2": v2.resource()}))
    health = Healthcheck(config.healthcheck.disable_by_file, troubles)
    probes = [
        database_probe(config, database),
        *store_probes(configured, config.default_store, troubles),
        *(authentication.probes or limits.probes),
    ]
    root = Root(pipeline, health)
    site = _site(config, reactor, root, events)
    components: list[Component] = [
        Resource("limits", limits.stop),
        Resource("authentication", authentication.stop),
        Resource("threads", threads.stop),
        Resource("database", database.close),
        LeaseRenewal(reactor, services.data, troubles),
        Resource("handlers", tasks.ended),
        LeaseRecovery(reactor, services.data, troubles),
        Probes(reactor, probes, troubles, config.healthcheck.interval),
    ]
    return Built(site, health, components)


def _open_database(config: Config, reactor: Reactor, troubles: Troubles) -> Database:
    what = database_name(config)

    def tell(why: str) -> None:
        troubles.report(DATABASE, what, why)

    return open_database(config.database.url.reveal(), _database_limits(config), reactor, tell)


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
