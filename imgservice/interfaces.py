"""The addresses of this host."""

from ipaddress import IPv4Address, IPv6Address, ip_address
from socket import AF_INET, AF_INET6


def own_addresses() -> frozenset[IPv4Address | IPv6Address]:
    """Return the addresses that the host's network interfaces have at this moment."""
    import psutil  # here, since most processes never fetch anything

    return frozenset(
        ip_address(one.address.partition("%")[0])
        for addresses in psutil.net_if_addrs().values()
        for one in addresses
        if one.family in (AF_INET, AF_INET6)
    )
