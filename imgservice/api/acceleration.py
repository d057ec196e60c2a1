"""Leaves the sending of files to a proxy in front, which finds them by X-Accel-Redirect."""

from typing import Protocol, runtime_checkable

from imgservice.domain.errors import NotFound, Unavailable
from imgservice.http.networks import Networks, is_within
from imgservice.http.request import StreamingRequest
from imgservice.service.reading import ImageData

HEADER = "x-accel-redirect"
_CONDITIONS = (
    "if-match", "if-none-match", "if-modified-since", "if-unmodified-since", "if-range",
    "content-range",
)  # fmt: skip
"""What the proxy would judge once more, by the time of the file, or does not know."""


@runtime_checkable
class FilesForProxy(Protocol):
    """The ability of a store whose objects a proxy can find as files."""

    def proxy_path(self, url: str) -> str | None:
        """Return how the proxy names the file, below its prefix; None when it cannot."""


class Acceleration:
    """Only for requests that come from one of the proxies: others would get an empty answer."""

    def __init__(self, prefix: str | None, proxies: Networks) -> None:
        self._prefix = prefix and prefix.rstrip("/")
        self._proxies = proxies

    async def place(self, request: StreamingRequest, data: ImageData) -> str | None:
        """Return where the proxy finds the data that it shall send; None when we send it."""
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
            return None  # whoever sends goes on to the next copy, or says what is wrong
        return f"{self._prefix}/{path}" if is_whole else None
