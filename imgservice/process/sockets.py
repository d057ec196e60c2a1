"""Where we listen: Twisted endpoint strings, with TLS around them when it is configured."""

import re
from ipaddress import ip_address
from typing import Any, cast

from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IStreamServerEndpoint

from imgservice.process.tls_transport import TlsEndpoint


class ListenError(Exception):
    """An endpoint, or the TLS for it, cannot be used; the message says which and why."""


def endpoint(
    reactor: Any, description: str, backlog: int, tls: object | None
) -> IStreamServerEndpoint:
    """Make the endpoint of a description such as "tcp:9292:interface=127.0.0.1"."""
    if description.startswith(("tcp:", "tcp6:", "unix:")) and "backlog=" not in description:
        description += f":backlog={backlog}"
    try:
        plain = serverFromString(reactor, description)
    except Exception as error:
        raise ListenError(
            f"{description!r} is not an endpoint: {error or type(error).__name__}"
        ) from None
    return plain if tls is None else cast(IStreamServerEndpoint, TlsEndpoint(reactor, plain, tls))


def is_loopback(description: str) -> bool:
    """Tell whether only this machine can connect there."""
    if description.startswith("unix:"):
        return True
    matched = re.search(r":interface=((?:\\:|[^:])*)", description)
    try:
        return matched is not None and ip_address(matched[1].replace("\\:", ":")).is_loopback
    except ValueError:
        return False
