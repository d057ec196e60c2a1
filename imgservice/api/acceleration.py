"""Lets a reverse proxy send files, which it is told by X-Accel-Redirect."""

from imgservice.domain.errors import NotFound, Unavailable
from imgservice.http.networks import Networks, is_within
from imgservice.http.request import StreamingRequest
from imgservice.service.reading import ImageData
from imgservice.store.interface import FilesForProxy

HEADER = "x-accel-redirect"
_CONDITIONS = (
    "if-match", "if-none-match", "if-modified-since", "if-unmodified-since", "if-range",
    "content-range",
)  # fmt: skip
"""Conditions that the proxy does not know, or would evaluate by the time of the file."""


class Acceleration:
    """Accelerates only requests from the proxies: others would get an empty response."""

    def __init__(self, prefix: str | None, proxies: Networks) -> None:
        self._prefix = prefix and prefix.rstrip("/")
        self._proxies = proxies

    async def place(self, request: StreamingRequest, data: ImageData) -> str | None:
        """Return the path of the data for the proxy to send; None when we send it."""
        if self._prefix is None or not is_within(request.peer, self._proxies):
            return None
        if any(request.header(name) is not None for name in _CONDITIONS):
            return None
        copy = data.copies[0]
        if not isinstance(copy.store, FilesForProxy):
            return None
        try:
            path = copy.store.proxy_path(copy.url)
            is_whole = path is not None and await copy.store.size(copy.url) == data.size
        except (NotFound, Unavailable):
            return None  # sending falls back to the next copy, or reports the error
        return f"{self._prefix}/{path}" if is_whole else None
