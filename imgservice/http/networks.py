"""IP addresses and networks from the configuration."""

from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

LONGEST = 64
"""Characters; more than an IPv6 address with its zone has."""
Networks = Sequence[IPv4Network | IPv6Network]


def networks(texts: Sequence[str]) -> Networks:
    """Parse addresses and networks; ValueError for anything else."""
    return tuple(ip_network(text, strict=False) for text in texts)


def is_within(address: str, trusted: Networks) -> bool:
    """Tell whether the address, also an IPv4-mapped one, lies in one of the networks."""
    return _is_within(address, tuple(trusted))


def neighbourhood(address: str) -> str:
    """Return the key under which to count an address: for IPv6 its /64, which one user has."""
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
