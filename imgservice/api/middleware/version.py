"""Finds the version of the API that a request is for, and lists the versions."""

from collections.abc import Mapping, Sequence

from imgservice.domain.errors import Invalid, NotFound
from imgservice.http.request import StreamingRequest
from imgservice.http.response import Document, Response, json_response

# The order in which Glance lists what a node without a cache speaks. Clients take the highest
# number; none of the numbers switches anything on or off.
SEVERAL_STORES = (15, 13, 12, 11, 10, 9, 8, 17, 7, 6, 5, 4, 3, 2, 1, 0)
ONE_STORE = (15, 9, 17, 7, 6, 5, 4, 3, 2, 1, 0)
NO_VERSIONS = frozenset({"favicon.ico", "robots.txt", ".well-known", "docs", "metrics"})
"""Paths that browsers and tools try by themselves; a list of versions would confuse them."""
ACCEPT_PREFIX = "application/vnd.openstack.images-"


class VersionNegotiation:
    """Negotiates the version.

    `public_url` is the URL that clients use; None: that of their request. `newest` limits `minors`.
    """

    def __init__(
        self, public_url: str | None, newest: str | None, minors: Sequence[int] = SEVERAL_STORES
    ) -> None:
        self._public_url = public_url
        limit = int(newest.partition(".")[2]) if newest else max(minors)
        self._minors = [minor for minor in minors if minor <= limit]
        self._known: Mapping[str, str] = {
            "v2": "v2",
            **{f"v2.{minor}": "v2" for minor in self._minors},
        }

    async def __call__(self, request: StreamingRequest) -> Response | None:
        self._check_text(request)
        segments = request.postpath
        if not segments[0]:
            del segments[
                : _empty(segments)
            ]  # the configured endpoint of the client ends in a slash
        first = segments[0].decode()
        if (version := self._accepted(request)) is not None:
            request.api_version = version
            return None
        if first == "versions" and segments[1:] in ([], [b""]):
            return self._list(request, 200)
        if first in NO_VERSIONS:
            raise NotFound("There is nothing here; /versions lists the versions of the API.")
        if first not in self._known or self._names_version(request):
            return self._list(request, 300)
        return self._enter(request, self._known[first])

    def _check_text(self, request: StreamingRequest) -> None:
        try:
            b"/".join(request.postpath).decode("utf-8")
        except UnicodeDecodeError:
            raise Invalid("The path of the request is not valid UTF-8.") from None

    def _accepted(self, request: StreamingRequest) -> str | None:
        """Return the version that the Accept header names, if any."""
        if not self._names_version(request):
            return None
        accept = request.header("accept") or ""
        return self._known.get(accept.removeprefix(ACCEPT_PREFIX))

    def _names_version(self, request: StreamingRequest) -> bool:
        return (request.header("accept") or "").startswith(ACCEPT_PREFIX)

    def _enter(self, request: StreamingRequest, version: str) -> Response | None:
        if len(request.postpath) == 1:
            return Response(302, headers={"location": f"{self._base(request)}/{version}/"})
        request.prepath.append(request.postpath.pop(0))
        request.api_version = version
        return None

    def _list(self, request: StreamingRequest, status: int) -> Response:
        links = [{"rel": "self", "href": f"{self._base(request)}/v2/"}]
        newest = max(self._minors)
        versions: list[Document] = [
            {
                "id": f"v2.{minor}",
                "status": "CURRENT" if minor == newest else "SUPPORTED",
                "links": links,
            }
            for minor in self._minors
        ]
        return json_response(status, {"versions": versions})

    def _base(self, request: StreamingRequest) -> str:
        return self._public_url or request.url_base()


def _empty(segments: Sequence[bytes]) -> int:
    """Return how many segments at the beginning are empty, not counting the last one."""
    return next((at for at, one in enumerate(segments) if one), len(segments) - 1)
