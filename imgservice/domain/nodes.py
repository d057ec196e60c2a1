"""The nodes that share a database, and which of them works on an image."""

from collections.abc import Set

import attrs

from imgservice.domain.image import Image, Status
from imgservice.domain.names import HASH_HOST, STAGE_HOST
from imgservice.domain.url_filter import Refused, read_target

_STAGED = (Status.UPLOADING, Status.IMPORTING)
"""While an image has one of these, what was staged for it may lie on one node only."""


def node_url(text: str) -> str:
    """Return the one spelling of the URL of a node; `Refused` for what cannot be one."""
    target = read_target(text)
    if target.credentials is not None or "?" in target.path:
        raise Refused("it is not that of a node")
    return target.url.rstrip("/")


@attrs.frozen
class Nodes:
    """What is known of the nodes; URLs are as `node_url` writes them."""

    url: str | None = None
    """How others reach this node; None: not at all."""
    own: Set[str] = frozenset()
    """Those that lead to this node, or to any node: asking there would lead nowhere."""
    peers: Set[str] | None = None
    """All that may be asked; None: those that a node has recorded with an image.

    Clients cannot record any: names that begin with `os_glance` are not theirs to use.
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
