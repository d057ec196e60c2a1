"""What the operator is told when the service has started."""

from contextlib import suppress
from ipaddress import IPv6Address, ip_address

from imgservice import __version__
from imgservice.config.sections import Config
from imgservice.process.addresses import Address
from imgservice.process.processors import worker_count
from imgservice.process.setup import Setup

_ANY = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}


def summary(setup: Setup) -> str:
    """Return one line: what runs, where it listens, and what it works with."""
    config = setup.config
    addresses = ", ".join(one.description for one in setup.addresses)
    tls = " with TLS" if config.server.tls else ""
    workers = worker_count(config)
    processes = f"{workers} worker{'s' if workers > 1 else ''}" if workers else "one process"
    return (
        f"imgservice {__version__} listens on {addresses}{tls}; database {config.database.url!r};"
        f" stores {_stores(config)}; auth {config.auth.mode}; {processes}"
    )


def _stores(config: Config) -> str:
    return ", ".join(
        f"{id_} ({one.type}{', default' if id_ == config.default_store else ''})"
        for id_, one in config.stores.items()
    )


def hint(setup: Setup) -> str | None:
    """Return a command that tries the service from this machine; None if no TCP reaches it."""
    address = next((one for one in setup.addresses if one.is_divisible), None)
    if address is None or address.is_proxied:
        return None
    url = _url(address, setup.config.server.tls is not None)
    if setup.config.auth.mode == "none":
        return f"try: OS_AUTH_TYPE=none OS_ENDPOINT={url} openstack image list"
    return f"try: curl {url}/versions"


def _url(address: Address, is_secure: bool) -> str:
    host = _ANY.get(address.host, address.host)
    with suppress(ValueError):  # a name
        host = f"[{host}]" if isinstance(ip_address(host), IPv6Address) else host
    return f"{'https' if is_secure else 'http'}://{host}:{address.port}"
