"""Sends requests on to the node that has what they need, in the name of who asks."""

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
"""On requests that come from a node of ours: these go no further."""
MOST_BYTES = 64 << 10
"""Of the answer of another node."""
_ALWAYS = ("if-match", "x-openstack-request-id")
_OBJECTIONS: Mapping[int, type[errors.ImageServiceError]] = {
    400: errors.Invalid,
    403: errors.Forbidden,
    409: errors.Conflict,
    412: errors.PreconditionFailed,
}
"""What the other node can have against it. With any other status it has not done it, and perhaps
is no node at all."""

_log = Logger()


class Forwarder:
    def __init__(self, fetcher: Fetcher, credentials: Sequence[str]) -> None:
        """`credentials` are the headers that prove to this node who asks, and to others as well."""
        self._fetcher = fetcher
        self._credentials = credentials

    def of(self, request: StreamingRequest, path: str) -> Callable[[str], Awaitable[bool]] | None:
        """Return what sends the request to the path on a node; None when it goes no further."""
        if request.header(MARK) is not None:
            return None
        method = request.method.decode("ascii")

        async def hand_over(node: str) -> bool:
            return await self._send(method, node + path, self._headers(request))

        return hand_over

    def _headers(self, request: StreamingRequest) -> Mapping[str, str]:
        found = {name: request.header(name) for name in (*self._credentials, *_ALWAYS)}
        kept = {name: value for name, value in found.items() if value is not None}
        # So the lines in the logs of both nodes have the same id.
        own = {"x-openstack-request-id": request.request_id} if request.request_id else {}
        return {**kept, **own, "accept": "application/json", MARK: "1"}

    async def _send(self, method: str, url: str, headers: Mapping[str, str]) -> bool:
        try:
            answer = await self._fetcher.send(method, url, headers)
        except (FetchFailed, Refused) as error:
            _log.warn("{method} {url}: {reason}", method=method, url=url, reason=error.message)
            return False
        objection = _OBJECTIONS.get(answer.status)
        if objection is not None:
            raise objection(await _message(answer))
        answer.abort()
        _log.info(
            "{method} {url} was answered {status}", method=method, url=url, status=answer.status
        )
        return answer.status // 100 == 2


async def _message(answer: Fetched) -> str:
    """Return what the other node says, without the markup that ends it."""
    try:
        message = orjson.loads(await answer.read(MOST_BYTES))["message"].partition("<br")[0].strip()
    except (errors.ImageServiceError, ValueError, TypeError, LookupError, AttributeError):
        message = ""
    return str(message) or "The node that works on the image refuses."
