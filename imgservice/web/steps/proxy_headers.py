"""Believes trusted proxies about where a request came from and how it was addressed."""

import re

from imgservice.web.addresses import Networks, is_within
from imgservice.web.respond import Answer
from imgservice.web.streaming import StreamingRequest

_HOST = re.compile(r"[A-Za-z0-9._\-:\[\]]+")
_PREFIX = re.compile(r"(/[A-Za-z0-9._~\-]+)*")
_PAIR = re.compile(r'\s*([A-Za-z]+)\s*=\s*("[^"]*"|[^;,\s]*)\s*')


class ProxyHeaders:
    """Reads `Forwarded`, else the `X-Forwarded-*` headers. Each proxy adds to the right, so what
    the outermost proxy saw is the leftmost entry: it is taken if all before it are trusted.
    """

    def __init__(self, trusted: Networks) -> None:
        self._trusted = trusted

    async def __call__(self, request: StreamingRequest) -> Answer | None:
        if self._trusted and is_within(request.peer, self._trusted):
            forwarded = request.header("forwarded")
            told = _forwarded(forwarded) if forwarded else _x_forwarded(request)
            self._apply(request, told)
        return None

    def _apply(self, request: StreamingRequest, told: dict[str, str]) -> None:
        address = self._client(told.get("for", ""))
        if address:
            request.client_address = address
        host = told.get("host") or request.header("host") or ""
        scheme = told.get("proto", "").lower()
        prefix = told.get("prefix", "").rstrip("/")
        if not (told.keys() & {"host", "proto", "prefix"}) or not _HOST.fullmatch(host):
            return
        if scheme not in ("http", "https"):
            scheme = "https" if request.isSecure() else "http"
        if _PREFIX.fullmatch(prefix):
            request.base_url = f"{scheme}://{host}{prefix}"

    def _client(self, chain: str) -> str | None:
        """Walk from the proxy nearest to us outwards, as far as we trust who tells."""
        address = None
        for entry in reversed([one.strip() for one in chain.split(",") if one.strip()]):
            address = _without_port(entry.strip('"'))
            if not is_within(address, self._trusted):
                break
        return address


def _without_port(node: str) -> str:
    if node.startswith("["):
        return node[1:].partition("]")[0]
    return node.partition(":")[0] if node.count(":") == 1 else node


def _x_forwarded(request: StreamingRequest) -> dict[str, str]:
    told = {}
    for key in ("for", "proto", "host", "prefix"):
        value = request.header(f"x-forwarded-{key}")
        if value:
            told[key] = value if key == "for" else value.split(",")[0].strip()
    return told


def _forwarded(value: str) -> dict[str, str]:
    """Read RFC 7239: host and proto of the first element, and all `for` entries."""
    told: dict[str, str] = {}
    addresses = []
    for element in value.split(","):
        pairs = {k.lower(): v.strip('"') for k, v in _PAIR.findall(element)}
        addresses.append(pairs.get("for", ""))
        told = told or {key: pairs[key] for key in ("host", "proto") if key in pairs}
    return {**told, "for": ",".join(addresses)}
