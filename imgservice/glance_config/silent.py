"""Tells what behaves differently although no option says so."""

import socket
from collections.abc import Container, Sequence
from ipaddress import ip_address
from itertools import chain

from imgservice.config.sections import Config
from imgservice.domain.units import Duration
from imgservice.domain.url_filter import Address, Refused, UrlFilter, read_host
from imgservice.glance_config.conversion import Conversion
from imgservice.glance_config.serving import Chain
from imgservice.net.interfaces import own_addresses

_HOSTS = "import_filtering_opts/allowed_hosts"
_CACHING = frozenset(("cache", "cachemanage"))
_OWN_NAMES = ("localhost", "ip6-localhost")


def remark_on_changes(conversion: Conversion, filters: Chain) -> None:
    """Remark on every difference that clients or operators would notice."""
    _remark_on_hosts(conversion)
    _remark_on_limits(conversion)
    _remark_on_processes(conversion)
    _remark_on_permissions(conversion)
    _remark_on_filters(conversion, filters)
    if conversion.given.text("DEFAULT/enabled_import_methods") is None:
        conversion.note(
            "import",
            "Glance offers imports (glance-direct, web-download, copy-image) unless"
            " enabled_import_methods says otherwise; here there are none yet.",
        )


# -- what may be fetched --------------------------------------------------------------------------


def _remark_on_hosts(conversion: Conversion) -> None:
    """Glance reaches every host in the list; here some need an exception for their network."""
    one = conversion.given.find(_HOSTS)
    hosts = conversion.document.names("import.filter.allowed_hosts")
    if one is None or not hosts:
        return
    own = own_addresses()
    refused = {host: needed for host in hosts if (needed := _needed(host, own))}
    if refused:
        cidrs = ", ".join(dict.fromkeys(chain.from_iterable(refused.values())))
        conversion.lose(
            "import",
            f"{one}: {', '.join(refused)} would be refused here, as this host, its link and the"
            f" metadata services of clouds are; if images come from there, add to"
            f" import.filter.cidrs: {cidrs}",
        )
    if any(_address(host) is None for host in hosts if host not in refused):
        conversion.note(
            "import",
            "Names in import.filter.allowed_hosts that lead to this host or its link are refused"
            " here unless the addresses are in import.filter.cidrs; Glance reaches them.",
        )


def _needed(host: str, own: Container[Address]) -> Sequence[str]:
    """Return the networks without which the host is refused."""
    if host.lower().rstrip(".") in (*_OWN_NAMES, socket.gethostname().lower()):
        return ("127.0.0.1/32", "::1/128")
    address = _address(host)
    if address is None:
        return ()
    try:
        UrlFilter().check_address(str(address), own)
    except Refused:
        return (f"{address}/{address.max_prefixlen}",)
    return ()


def _address(host: str) -> Address | None:
    try:
        return ip_address(read_host(host))
    except (ValueError, Refused):
        return None


# -- how much, how many -----------------------------------------------------------------------


def _remark_on_limits(conversion: Conversion) -> None:
    conversion.note(
        "limits",
        "Glance limits neither rates nor connections. Here limits.rate, limits.uploads,"
        " server.max_connections_per_address and server.min_rate do, at values for whole clouds;"
        " null and 0 turn them off.",
    )
    if conversion.document.get("limits.keystone.enabled"):
        seconds: Duration = Config().limits.keystone.cache_time
        conversion.note(
            "limits",
            f"Limits of a project are remembered for {seconds:g} seconds; Glance asks Keystone each"
            " time, as limits.keystone.cache_time: 0 does.",
        )


def _remark_on_processes(conversion: Conversion) -> None:
    if conversion.document.get("server.workers") is None:
        conversion.note(
            "server",
            "Glance's files do not say how many processes it has: its WSGI server does, or there is"
            " one for each processor. Here it is one unless server.workers is set.",
        )


def _remark_on_permissions(conversion: Conversion) -> None:
    stores = conversion.document.names("stores")
    if conversion.document.get("server.umask") is None and any(
        conversion.document.get(("stores", name, "type")) == "file"
        and conversion.document.get(("stores", name, "file_mode")) is None
        for name in stores
    ):
        conversion.note(
            "server",
            f"New files in stores get what server.umask leaves, which is {Config().server.umask}"
            " here: others may not read them. In Glance it is what the process was started with.",
        )


def _remark_on_filters(conversion: Conversion, passed: Chain) -> None:
    kinds = {one.kind for one in passed.filters}
    if kinds & _CACHING or conversion.given.text("DEFAULT/image_cache_dir"):
        conversion.note(
            "api",
            "With a directory for its cache Glance announces the versions 2.14, 2.16 and 2.18 of"
            " the API, which are not there yet.",
        )
    if kinds and "cors" not in kinds and conversion.document.get("cors.allowed_origins"):
        conversion.note(
            "cors",
            "The pipeline of Glance has no filter cors, so allowed_origin had no effect there;"
            " here it has.",
        )
