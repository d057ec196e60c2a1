"""From the configuration to stores, and to what fetches from other servers."""

from collections.abc import Callable, Mapping, Sequence
from ipaddress import ip_network
from typing import Any, TypeVar

from imgservice.concurrency.threads import Threads
from imgservice.config.errors import OptionError
from imgservice.config.sections import Config
from imgservice.domain.url_filter import Refused, TargetRules, read_host
from imgservice.net.client import Fetcher
from imgservice.net.limits import FetchLimits
from imgservice.store import registry
from imgservice.store.choose import KnowsItsUrls, SingleStore, Stores
from imgservice.store.interface import Store

T = TypeVar("T")


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


def make_stores(config: Config, threads: Threads, fetcher: Fetcher) -> dict[str, Store]:
    stores = {}
    for store_id, entry in config.stores.items():
        driver = registry.driver(entry.type)
        more = {"fetcher": fetcher} if driver.fetches else {}
        stores[store_id] = driver.create(store_id, entry.options, threads, **more)
    return stores


def make_fetcher(config: Config, reactor: Any) -> Fetcher:
    server = config.server
    limits = FetchLimits(min_rate=server.min_rate, min_rate_time=server.min_rate_time)
    return Fetcher(reactor, make_target_rules(config), limits)


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
