"""Addresses and networks that are trusted more than others."""

from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Networks = Sequence[IPv4Network | IPv6Network]


def networks(texts: Sequence[str]) -> Networks:
    """Read addresses and networks; ValueError for what is neither."""
    return tuple(ip_network(text, strict=False) for text in texts)


def is_within(address: str, trusted: Networks) -> bool:
    """Tell whether the address, an IPv4 one seen through IPv6 too, lies in one of the networks."""
    return _is_within(address, tuple(trusted))


@lru_cache(1024)
def _is_within(address: str, trusted: tuple[IPv4Network | IPv6Network, ...]) -> bool:
    try:
        parsed = ip_address(address)
    except ValueError:
        return False
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    return any(parsed in network for network in trusted)
