"""From the configuration to stores, and to what fetches from other servers."""

from collections.abc import Mapping
from ipaddress import ip_network

from twisted.internet.defer import Deferred

from imgservice.concurrency.memory import SharedMemory
from imgservice.concurrency.reactor import Reactor
from imgservice.concurrency.threads import Threads
from imgservice.config.errors import OptionError
from imgservice.config.sections import Config
from imgservice.domain.url_filter import UrlFilter
from imgservice.net.client import Fetcher
from imgservice.net.limits import FetchLimits
from imgservice.store import registry
from imgservice.store.choose import SingleStore, Stores
from imgservice.store.interface import KeepsConnections, KnowsItsUrls, Store


def make_choice(config: Config, stores: Mapping[str, Store]) -> Stores:
    """Make what chooses between the stores; `OptionError` for what cannot work."""
    weights = {store_id: entry.options.weight for store_id, entry in config.stores.items()}
    if not config.single_store:
        return Stores(stores, config.default_store, weights)
    for store_id, store in stores.items():
        if not isinstance(store, KnowsItsUrls):
            kind = config.stores[store_id].type
            reason = f"not possible with {store_id!r}: the type {kind} does not know its URLs"
            raise OptionError(("single_store",), reason)
    return SingleStore(stores, config.default_store, weights)


def make_stores(config: Config, threads: Threads, reactor: Reactor) -> dict[str, Store]:
    """Make all stores; none of them connects to anything yet."""
    fetcher, memory = make_fetcher(config, reactor), SharedMemory(part_memory(config))
    stores = {}
    for store_id, entry in config.stores.items():
        driver = registry.driver(entry.type)
        more: dict[str, object] = {"fetcher": fetcher} if driver.fetches else {}
        if driver.connects:
            more["reactor"] = reactor
        if driver.buffers:
            more["memory"] = memory
        stores[store_id] = driver.create(store_id, entry.options, threads, **more)
    return stores


def part_memory(config: Config) -> int:
    """Return how much of the memory for uploads belongs to stores that need parts at hand."""
    buffers = any(registry.driver(entry.type).buffers for entry in config.stores.values())
    return config.transfer.memory // 2 if buffers else 0


def connects(config: Config, store_id: str) -> bool:
    """Tell whether the store keeps connections to servers."""
    return registry.driver(config.stores[store_id].type).connects


def close_stores(stores: Mapping[str, Store]) -> Deferred[None]:
    """Close the connections that the stores keep."""

    async def close() -> None:
        for store in stores.values():
            if isinstance(store, KeepsConnections):
                await store.close()

    return Deferred.fromCoroutine(close())


def make_fetcher(config: Config, reactor: Reactor) -> Fetcher:
    server = config.server
    limits = FetchLimits(min_rate=server.min_rate, min_rate_time=server.min_rate_time)
    return Fetcher(reactor, make_url_filter(config), limits)


def make_url_filter(config: Config) -> UrlFilter:
    """Make the rules for what may be fetched."""
    options = config.import_.filter
    return UrlFilter(
        allowed_schemes=options.allowed_schemes,
        disallowed_schemes=options.disallowed_schemes,
        allowed_hosts=options.allowed_hosts,
        disallowed_hosts=options.disallowed_hosts,
        allowed_ports=options.allowed_ports,
        disallowed_ports=options.disallowed_ports,
        private=options.private,
        exempt=[ip_network(text) for text in options.cidrs],
    )
