"""Addresses and networks that are trusted more than others."""

from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

LONGEST = 64
"""Characters in an IPv6 address with its zone, and some to spare."""
Networks = Sequence[IPv4Network | IPv6Network]


def networks(texts: Sequence[str]) -> Networks:
    """Read addresses and networks; ValueError for what is neither."""
    return tuple(ip_network(text, strict=False) for text in texts)


def is_within(address: str, trusted: Networks) -> bool:
    """Tell whether the address, an IPv4 one seen through IPv6 too, lies in one of the networks."""
    return _is_within(address, tuple(trusted))


def neighbourhood(address: str) -> str:
    """Return what stands for all addresses that its user has: in IPv6 a whole network is his."""
    return _neighbourhood(address) if ":" in address and len(address) <= LONGEST else address


@lru_cache(4096)
def _neighbourhood(address: str) -> str:
    try:
        parsed = IPv6Address(address)
    except ValueError:
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(IPv6Network((int(parsed), 64), strict=False))


@lru_cache(1024)
def _is_within(address: str, trusted: tuple[IPv4Network | IPv6Network, ...]) -> bool:
    try:
        parsed = ip_address(address)
    except ValueError:
        return False
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    return any(parsed in network for network in trusted)
