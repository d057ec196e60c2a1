"""Lets web pages of configured origins call the API (CORS)."""

from collections.abc import Sequence

from imgservice.http.request import StreamingRequest
from imgservice.http.response import Response

METHODS = "GET,PUT,POST,DELETE,PATCH"
ALLOWED = (
    "Content-MD5,X-Image-Meta-Checksum,X-Storage-Token,Accept-Encoding,X-Auth-Token,"
    "X-Identity-Status,X-Roles,X-Service-Catalog,X-User-Id,X-Tenant-Id,X-OpenStack-Request-ID"
)
SIMPLE = frozenset(
    ("accept", "accept-language", "content-type", "cache-control", "content-language")
)
EXPOSED = (
    "X-Image-Meta-Checksum,X-Auth-Token,X-Subject-Token,X-Service-Token,X-OpenStack-Request-ID"
)


class Cors:
    def __init__(self, origins: Sequence[str], credentials: bool, max_age: float) -> None:
        self._origins = frozenset(origins)
        self._credentials = credentials and "*" not in self._origins
        self._max_age = max_age

    async def __call__(self, request: StreamingRequest) -> Response | None:
        if not self._origins and request.method != b"OPTIONS":
            return None
        origin = request.header("origin")
        allowed = origin is not None and ("*" in self._origins or origin in self._origins)
        if request.method == b"OPTIONS":
            return self._preflight(request, origin if allowed else None)
        if allowed and origin is not None:
            for name, value in self._common(origin).items():
                request.setHeader(name, value)
            request.setHeader("access-control-expose-headers", EXPOSED)
        return None

    def _preflight(self, request: StreamingRequest, origin: str | None) -> Response:
        """Answer a preflight request; a response without CORS headers is a refusal."""
        method = request.header("access-control-request-method")
        if origin is None or method not in METHODS.split(","):
            return Response(200)
        asked = (request.header("access-control-request-headers") or "").lower().split(",")
        known = SIMPLE | set(ALLOWED.lower().split(","))
        if not {name.strip() for name in asked if name.strip()} <= known:
            return Response(200)
        headers = {
            **self._common(origin),
            "access-control-allow-methods": method,
            "access-control-allow-headers": ALLOWED,
            "access-control-max-age": f"{self._max_age:.0f}",
        }
        return Response(200, headers=headers)

    def _common(self, origin: str) -> dict[str, str]:
        headers = {"access-control-allow-origin": origin, "vary": "Origin"}
        if self._credentials:
            headers["access-control-allow-credentials"] = "true"
        return headers
