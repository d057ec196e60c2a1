"""The addresses of this host."""

import socket
from collections.abc import Container
from errno import EADDRNOTAVAIL, EAFNOSUPPORT
from ipaddress import IPv4Address, ip_address

from imgservice.domain.url_filter import Address


def own_addresses() -> Container[Address]:
    """Return the addresses that the host's network interfaces have at this moment."""
    import psutil  # here, since most processes never fetch anything

    try:
        interfaces = psutil.net_if_addrs()
    except OSError:  # such as where systemd does not let us use AF_NETLINK
        return BindableAddresses()
    return frozenset(
        ip_address(one.address.partition("%")[0])
        for addresses in interfaces.values()
        for one in addresses
        if one.family in (socket.AF_INET, socket.AF_INET6)
    )


class BindableAddresses:
    """The addresses on which the kernel lets us listen.

    These are the host's own, unless `net.ipv4.ip_nonlocal_bind` is set: then it is all of them.
    """

    def __contains__(self, address: object) -> bool:
        family = socket.AF_INET if isinstance(address, IPv4Address) else socket.AF_INET6
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.bind((str(address), 0))
        except OSError as error:
            return error.errno not in (EADDRNOTAVAIL, EAFNOSUPPORT)  # in doubt it is
        return True
