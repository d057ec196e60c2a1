"""From the configuration to the nodes of the cloud, and to what forwards requests to them."""

from collections.abc import Mapping, Sequence
from ipaddress import ip_network

from imgservice.api.forwarding import Forwarder
from imgservice.api.middleware.auth_token import IDENTITY_HEADERS
from imgservice.concurrency.reactor import Reactor
from imgservice.config.errors import OptionError
from imgservice.config.sections import Config
from imgservice.domain.nodes import Nodes, node_url
from imgservice.domain.url_filter import Refused, UrlFilter
from imgservice.net.client import Fetcher
from imgservice.net.limits import FetchLimits

_EVERYWHERE = tuple(map(ip_network, ("0.0.0.0/0", "::/0")))
_LIMITS = FetchLimits(connect=10, idle=60)
_CREDENTIALS: Mapping[str, Sequence[str]] = {
    "none": (),
    "basic": ("authorization",),
    "tokens": ("x-auth-token", "authorization"),
    "keystone": ("x-auth-token", "x-storage-token", "x-service-token"),
    "client_certificate": (),
    "trusted_headers": IDENTITY_HEADERS,
}
"""By `auth.mode`. No other headers are forwarded: a client could impersonate others with them."""


def make_nodes(config: Config) -> Nodes:
    """Make what is known of the nodes."""
    node = config.node
    url = None if node.url is None else node_url(node.url)
    own = set() if url is None else {url}
    if config.server.public_url is not None:
        own |= _spellings(config.server.public_url)
    if node.peers is None:
        return Nodes(url, own)
    return Nodes(url, own, {*map(node_url, node.peers)} - own)


def make_forwarder(config: Config, reactor: Reactor) -> Forwarder:
    """Make what forwards requests; `OptionError` for a file without certificates."""
    # Nodes in the list are trusted with credentials, whatever their address.
    listed = config.node.peers is not None
    rules = UrlFilter(allowed_ports=(), exempt=_EVERYWHERE if listed else ())
    fetcher = Fetcher(reactor, rules, _LIMITS)
    if config.node.ca_file is not None:
        try:
            fetcher = fetcher.trusting(config.node.ca_file)
        except ValueError as error:
            raise OptionError(("node", "ca_file"), str(error)) from None
    return Forwarder(fetcher, _CREDENTIALS[config.auth.mode])


def _spellings(public_url: str) -> set[str]:
    """Return the public URL if it could be mistaken for a node's, else nothing."""
    try:
        return {node_url(public_url)}
    except Refused:
        return set()
