"""Makes the limits of rates, transfers and connections from the configuration."""

from imgservice.api.middleware.rate_limit import (
    AddressLimit,
    CallerRates,
    RateLimit,
    RequestCosts,
)
from imgservice.api.v2.table import ROUTES
from imgservice.concurrency.reactor import Clock
from imgservice.config.sections import Config
from imgservice.domain.rates import Buckets, Places, Rate
from imgservice.http.connection_limits import ConnectionCaps, ConnectionLimits
from imgservice.http.networks import networks
from imgservice.http.throttle import ByteRates, Transfers

LOOPBACK = ("127.0.0.0/8", "::1")


def make_rate_steps(config: Config) -> tuple[AddressLimit, RateLimit]:
    """Make the steps before and after authentication; the second can undo the first's count."""
    rate = config.limits.rate
    address = rate.address
    before = AddressLimit(
        _buckets(address.requests), _buckets(address.failures), networks(address.exempt)
    )
    rates = CallerRates(
        _buckets(rate.user.requests),
        _buckets(rate.project.requests),
        _buckets(rate.project.creates),
    )
    costs = RequestCosts({"v2": ROUTES})
    return before, RateLimit(rates, rate.exempt_roles, before, costs)


def make_transfers(config: Config, reactor: Clock) -> Transfers:
    limits = config.limits
    user, project = limits.rate.user, limits.rate.project
    return Transfers(
        reactor,
        incoming=ByteRates(_buckets(user.bytes_in), _buckets(project.bytes_in)),
        outgoing=ByteRates(_buckets(user.bytes_out), _buckets(project.bytes_out)),
        uploads=Places(limits.uploads.total, limits.uploads.project),
        exempt_roles=limits.rate.exempt_roles,
    )


def make_connection_limits(config: Config, reactor: Clock) -> ConnectionLimits:
    """Make the connection limits, from which trusted proxies and this machine are exempt."""
    server = config.server
    exempt = (*LOOPBACK, *server.trusted_proxies, *config.limits.rate.address.exempt)
    limits = ConnectionCaps(
        server.max_connections, server.max_connections_per_address, networks(exempt)
    )
    return ConnectionLimits(reactor, limits)


def _buckets(rate: Rate | None) -> Buckets | None:
    return None if rate is None else Buckets(rate)
