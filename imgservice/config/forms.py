"""What strings in the configuration look like."""

import re
from functools import partial
from ipaddress import ip_network

from imgservice.domain.nodes import node_url
from imgservice.domain.options import Form
from imgservice.domain.url_filter import read_host

_VERSION = re.compile(r"v?2\.[0-9]+")
_UMASK = re.compile("0?[0-7]{3}")
_HEADER_TEXT = re.compile("[ !#-~]*")
_PATH_PREFIX = re.compile(r"(?:/[A-Za-z0-9._~-]+)+/?")


def _match(pattern: re.Pattern[str], text: str) -> None:
    if not pattern.fullmatch(text):
        raise ValueError(text)


ADDRESSES = Form("an IP address or a network", partial(ip_network, strict=False))
NETWORK = Form("a network, such as 127.0.0.1/32", ip_network)
HOST = Form("a host", read_host)
NODE_URL = Form("a URL such as http://node1:9292", node_url)
HEADER_URL = Form("a URL", partial(_match, _HEADER_TEXT))
"""One that can stand between quotes in a header."""
VERSION = Form('a version such as "2.9"', partial(_match, _VERSION))
UMASK = Form("an octal number such as 027", partial(_match, _UMASK))
PATH_PREFIX = Form("a path such as /stored", partial(_match, _PATH_PREFIX))
