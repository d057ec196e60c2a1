"""The nodes that share a database, and the one that works on an image."""

from collections.abc import Set

import attrs

from imgservice.domain.image import Image, Status
from imgservice.domain.names import HASH_HOST, STAGE_HOST
from imgservice.domain.url_filter import Refused, read_url

_STAGED = (Status.UPLOADING, Status.IMPORTING)
"""In these states, data may be staged for the image, on one node only."""


def node_url(text: str) -> str:
    """Return the normal form of the URL of a node; `Refused` if it cannot be one."""
    target = read_url(text)
    if target.credentials is not None or "?" in target.path:
        raise Refused("it is not that of a node")
    return target.text.rstrip("/")


@attrs.frozen
class Nodes:
    """The nodes that are known. URLs are in the form of `node_url`."""

    url: str | None = None
    """The URL of this node; None when other nodes cannot reach it."""
    own: Set[str] = frozenset()
    """URLs of this node, or of any node, such as a load balancer: forwarding there is useless."""
    peers: Set[str] | None = None
    """The URLs that requests may be forwarded to; None: whatever a node recorded with an image.

    Clients cannot record any, since they may not set properties that begin with `os_glance`.
    """

    def at_work(self, image: Image) -> str | None:
        """Return the URL of the other node that works on the image, None when there is none."""
        names = (STAGE_HOST, HASH_HOST) if image.status in _STAGED else (HASH_HOST,)
        found = (self._other(image.properties.get(name)) for name in names)
        return next(filter(None, found), None)

    def _other(self, text: str | None) -> str | None:
        try:
            url = node_url(text or "")
        except Refused:
            return None
        may_ask = self.peers is None or url in self.peers
        return url if may_ask and url not in self.own else None
