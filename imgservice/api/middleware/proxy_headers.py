"""Reads from trusted proxies who sent a request and which URL it was for."""

import re

from imgservice.http.networks import Networks, is_within
from imgservice.http.request import StreamingRequest
from imgservice.http.response import Response

_HOST = re.compile(r"[A-Za-z0-9._\-:\[\]]+")
_PREFIX = re.compile(r"(?:/[A-Za-z0-9._~\-]++)*+")
_PAIR = re.compile(r'\s*+(?:([A-Za-z]++)\s*+=\s*+("[^"]*+"|[^;,\s"]*+))?[^;,]*+([;,]|\Z)', re.ASCII)
"""`name=value` with its separator, or anything else up to the next separator."""


class ProxyHeaders:
    """Reads `Forwarded`, else the `X-Forwarded-*` headers.

    Each proxy appends to the right. The client is the rightmost address that is not a trusted
    proxy. Some proxies do not extend a header, but add another one of the same name.
    """

    def __init__(self, trusted: Networks) -> None:
        self._trusted = trusted

    async def __call__(self, request: StreamingRequest) -> Response | None:
        if self._trusted and is_within(request.peer, self._trusted):
            forwarded = ",".join(request.header_values("forwarded"))
            if forwarded:
                chain, told = _forwarded(forwarded)
            else:
                chain = ",".join(request.header_values("x-forwarded-for")).split(",")
                told = _x_forwarded(request)
            self._apply(request, chain, told)
        return None

    def _apply(self, request: StreamingRequest, chain: list[str], told: dict[str, str]) -> None:
        address = self._client(chain)
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

    def _client(self, chain: list[str]) -> str | None:
        """Walk from the nearest proxy outwards, as long as the addresses are trusted."""
        address = None
        for entry in filter(None, (one.strip() for one in reversed(chain))):
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
    for key in ("proto", "host", "prefix"):
        value = request.header(f"x-forwarded-{key}")
        if value:
            told[key] = value.partition(",")[0].strip()
    return told


def _forwarded(value: str) -> tuple[list[str], dict[str, str]]:
    """Read RFC 7239: all `for` entries, and host and proto of the first element with either."""
    chain: list[str] = []
    told: dict[str, str] = {}
    element: dict[str, str] = {}
    for name, text, end in _PAIR.findall(value):
        if name:
            element[name.lower()] = text.strip('"')
        if end != ";":
            chain.append(element.get("for", ""))
            told = told or {key: element[key] for key in ("host", "proto") if key in element}
            element = {}
    return chain, told
