"""Answers that end before they are complete."""

from imgservice.http.request import StreamingRequest


class ClientGone(Exception):
    """The client closed the connection before it had the whole answer."""


class ShortData(Exception):
    """The store had fewer bytes than the image has; the connection was closed."""


def cut(request: StreamingRequest) -> None:
    """Close the connection, so that the client sees an error and not a shorter image."""
    if not request.disconnected:
        request.channel.abort()
