"""The filter for URLs that users name: which servers this service may connect to."""

import re
import socket
from collections.abc import Container, Iterable, Sequence
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from urllib.parse import SplitResult, quote, unquote, urljoin, urlsplit

import attrs

from imgservice.domain.errors import Invalid

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

PORTS = {"http": 80, "https": 443}
LONGEST_URL = 8192


def _networks(*texts: str) -> tuple[Network, ...]:
    return tuple(map(ip_network, texts))


CLOUD_SERVICES = _networks(
    "100.100.100.200/32", "fd00:100::100:200/128",  # Alibaba
    "168.63.129.16/32",  # Azure: DNS, and the agent's certificates and settings
    "fd00:ec2::/32",  # Amazon: metadata ::254, credentials of pods ::23, DNS, time
    "fd00:a9fe:a9fe::1/128",  # Akamai
    "fd20:ce::254/128",  # Google
    "fd00:c1::a9fe:a9fe/128",  # Oracle; its older 192.0.0.192 is within 192.0.0.0/24
    "fd00:42::42/128",  # Scaleway
)  # fmt: skip
"""Addresses of metadata services in clouds; most of them are in 169.254.0.0/16 instead."""

TRANSLATED = _networks(
    "::/96", "::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48",
)  # fmt: skip
"""Networks of IPv6 whose last 32 bits are an IPv4 address."""

NEVER = CLOUD_SERVICES + _networks(
    "0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "192.0.0.0/24", "192.88.99.0/24", "224.0.0.0/4",
    "240.0.0.0/4",
    "::/96", "::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b:1::/48", "100::/64", "2001::/32",
    "5f00::/16", "fe80::/10", "ff00::/8",
)  # fmt: skip
"""This host, link-local and multicast networks, reserved ones, and tunnels to any of these.

Of the networks that embed IPv4 addresses only two are allowed, and the embedded address is checked,
too: 64:ff9b::/96, through which hosts without IPv4 reach the Internet, and 2002::/16.
"""

PRIVATE = _networks(
    "10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.0.2.0/24", "192.168.0.0/16",
    "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",
    "2001::/23", "2001:db8::/32", "3fff::/20", "fc00::/7", "fec0::/10",
)  # fmt: skip
"""Networks outside the Internet: private, shared, for documentation and for benchmarks."""


class Refused(Invalid):
    """The URL is not allowed. The message contains the reason, but never the URL."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"The URI does not pass filtering: {reason}.")


@attrs.frozen
class HttpUrl:
    """A URL in its normal form, which is both checked and used."""

    scheme: str
    host: str
    """In lower case and ASCII, without a dot at the end; an address is in its normal form."""
    port: int
    path: str
    """Including the query."""
    credentials: str | None = attrs.field(default=None, repr=False)
    """`user:password`, as in the URL."""

    @property
    def origin(self) -> tuple[str, str, int]:
        return self.scheme, self.host, self.port

    @property
    def text(self) -> str:
        """The URL without credentials."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}{self.path}"

    def redirected(self, location: str) -> "HttpUrl":
        """Return the target of a redirect, with the credentials only if the server is the same."""
        try:
            target = read_url(urljoin(self.text, location))
        except ValueError:
            raise Refused("it cannot be read") from None
        if target.credentials is None and target.origin == self.origin:
            return attrs.evolve(target, credentials=self.credentials)
        return target


def read_url(url: str) -> HttpUrl:
    """Parse a URL; `Refused` if it is ambiguous."""
    if len(url) > LONGEST_URL:
        raise Refused("it is too long")
    if re.search(r"[\x00-\x20\x7f\\]", url):
        raise Refused("it has characters that no URL has")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise Refused("it cannot be read") from None
    if port == 0:
        raise Refused("its port is not allowed")
    scheme = parts.scheme.lower()
    if scheme not in PORTS:
        raise Refused("its scheme is not allowed")
    return HttpUrl(
        scheme=scheme,
        host=_host(parts),
        port=PORTS[scheme] if port is None else port,
        path=_path(parts),
        credentials=_credentials(parts),
    )


def _host(parts: SplitResult) -> str:
    bracketed = parts.netloc.rpartition("@")[2].startswith("[")
    return (_ipv6 if bracketed else read_host)(parts.hostname or "")


def _path(parts: SplitResult) -> str:
    path = quote(parts.path or "/", safe="/%:=&?~+!$,;'@()*")
    return f"{path}?{quote(parts.query, safe='/%:=&?~+!$,;@()*')}" if parts.query else path


def _credentials(parts: SplitResult) -> str | None:
    if parts.username is None:
        return None
    return f"{unquote(parts.username)}:{unquote(parts.password or '')}"


def read_host(text: str) -> str:
    """Return the normal form of a host; IPv4 addresses may be octal, hexadecimal or shortened."""
    if ":" in text:
        return _ipv6(text.removeprefix("[").removesuffix("]"))
    try:
        host = text.encode("idna").decode("ascii").lower().removesuffix(".")
    except UnicodeError:
        raise Refused("it has no valid host") from None
    if not re.fullmatch(r"[a-z0-9_](?:[a-z0-9._-]*[a-z0-9_])?", host) or ".." in host:
        raise Refused("it has no valid host")
    return _ipv4(host) if re.fullmatch(r"\d+|0x[0-9a-f]*", host.rpartition(".")[2]) else host


def _ipv6(text: str) -> str:
    try:
        address = IPv6Address(text)
    except ValueError:
        raise Refused("it has no valid host") from None
    if address.scope_id is not None:
        raise Refused("its address is not allowed")
    return str(address)


def _ipv4(text: str) -> str:
    try:
        return str(IPv4Address(socket.inet_aton(text)))
    except OSError:
        raise Refused("it has no valid host") from None


def _hosts(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(map(read_host, texts))


@attrs.frozen(kw_only=True)
class UrlFilter:
    """What the operator allows. If there is a list of what is allowed, the other list is ignored.

    Hosts may be in any form. Addresses in `exempt` networks are always allowed.
    """

    allowed_schemes: Sequence[str] = tuple(PORTS)
    disallowed_schemes: Sequence[str] = ()
    allowed_hosts: Sequence[str] = attrs.field(default=(), converter=_hosts)
    disallowed_hosts: Sequence[str] = attrs.field(default=(), converter=_hosts)
    allowed_ports: Sequence[int] = tuple(PORTS.values())
    disallowed_ports: Sequence[int] = ()
    private: bool = True
    """Whether private networks are allowed."""
    exempt: Sequence[Network] = ()

    def check(self, target: HttpUrl) -> None:
        """Raise `Refused` for the scheme, the host or the port of the URL."""
        for what, value, allowed, disallowed in (
            ("scheme", target.scheme, self.allowed_schemes, self.disallowed_schemes),
            ("host", target.host, self.allowed_hosts, self.disallowed_hosts),
            ("port", target.port, self.allowed_ports, self.disallowed_ports),
        ):
            if value not in allowed if allowed else value in disallowed:
                raise Refused(f"its {what} is not allowed")

    def check_address(self, text: str, own: Container[Address] = ()) -> None:
        """Raise `Refused` for an address, or one embedded in it, that is not allowed.

        `own` are the addresses of this host, which are refused unless they are exempt.
        """
        if not all(self._may_reach(address, own) for address in _meanings(ip_address(text))):
            raise Refused("its address is not allowed")

    def _may_reach(self, address: Address, own: Container[Address]) -> bool:
        if _within(address, self.exempt):
            return True
        if address in own or _within(address, NEVER):
            return False
        return self.private or not _within(address, PRIVATE)


def _within(address: Address, networks: Iterable[Network]) -> bool:
    return any(address in network for network in networks)


def _meanings(address: Address) -> list[Address]:
    """Return the address, and the IPv4 address embedded in it, if any."""
    if isinstance(address, IPv4Address):
        return [address]
    embedded = address.sixtofour
    if _within(address, TRANSLATED) and address not in (IPv6Address("::"), IPv6Address("::1")):
        embedded = IPv4Address(int(address) & 0xFFFFFFFF)
    return [address] if embedded is None else [address, embedded]
