"""Forwards requests to the node that has what they need, with the caller's credentials."""

from collections.abc import Awaitable, Callable, Mapping, Sequence

import orjson
from twisted.logger import Logger

from imgservice.domain import errors
from imgservice.domain.url_filter import Refused
from imgservice.http.request import StreamingRequest
from imgservice.net.answers import Fetched
from imgservice.net.client import Fetcher
from imgservice.net.errors import FetchFailed

MARK = "x-imgservice-handed-over"
"""Marks requests from another node, which are not forwarded again."""
MOST_BYTES = 64 << 10
"""Of the response of another node."""
_ALWAYS = ("if-match", "x-openstack-request-id")
_REFUSALS: Mapping[int, type[errors.ImageServiceError]] = {
    400: errors.Invalid,
    403: errors.Forbidden,
    409: errors.Conflict,
    412: errors.PreconditionFailed,
}
"""Refusals of the other node that are passed on. Any other error means that the request was not
carried out, perhaps because the server is not a node."""

_log = Logger()


class Forwarder:
    """Forwards requests."""

    def __init__(self, fetcher: Fetcher, credentials: Sequence[str]) -> None:
        """`credentials` are the headers that identify callers, on every node alike."""
        self._fetcher = fetcher
        self._credentials = credentials

    def of(self, request: StreamingRequest, path: str) -> Callable[[str], Awaitable[bool]] | None:
        """Return what forwards the request to the path on a node; None when nothing may."""
        if request.header(MARK) is not None:
            return None
        method = request.method.decode("ascii")

        async def forward(node: str) -> bool:
            return await self._send(method, node + path, self._headers(request))

        return forward

    def _headers(self, request: StreamingRequest) -> Mapping[str, str]:
        found = {name: request.header(name) for name in (*self._credentials, *_ALWAYS)}
        kept = {name: value for name, value in found.items() if value is not None}
        # With our request id, log lines on both nodes can be matched.
        own = {"x-openstack-request-id": request.request_id} if request.request_id else {}
        return {**kept, **own, "accept": "application/json", MARK: "1"}

    async def _send(self, method: str, url: str, headers: Mapping[str, str]) -> bool:
        try:
            response = await self._fetcher.send(method, url, headers)
        except (FetchFailed, Refused) as error:
            _log.warn("{method} {url}: {reason}", method=method, url=url, reason=error.message)
            return False
        refusal = _REFUSALS.get(response.status)
        if refusal is not None:
            raise refusal(await _message(response))
        response.abort()
        _log.info(
            "{method} {url} was answered {status}", method=method, url=url, status=response.status
        )
        return response.status // 100 == 2


async def _message(response: Fetched) -> str:
    """Return the message of the other node, without the markup at its end."""
    try:
        message = (
            orjson.loads(await response.read(MOST_BYTES))["message"].partition("<br")[0].strip()
        )
    except (errors.ImageServiceError, ValueError, TypeError, LookupError, AttributeError):
        message = ""
    return str(message) or "The node that works on the image refuses."
