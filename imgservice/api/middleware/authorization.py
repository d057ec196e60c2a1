"""Reads the Authorization header."""

from collections.abc import Sequence

from imgservice.domain.errors import NotAuthenticated
from imgservice.http.request import StreamingRequest


def authorization(request: StreamingRequest, scheme: bytes, challenge: str) -> bytes | None:
    """Return the credentials; None without the header, `NotAuthenticated` for another scheme."""
    values = request.requestHeaders.getRawHeaders(b"authorization", [])
    if not values:
        return None
    only_one(values, "Authorization", challenge)
    given, _, credentials = values[0].strip().partition(b" ")
    if given.lower() != scheme:
        expected = scheme.decode().capitalize()
        raise NotAuthenticated(
            f"The Authorization header is not of the type {expected}.", challenge
        )
    return credentials.strip()


def only_one(values: Sequence[bytes], name: str, challenge: str) -> None:
    """Refuse a header that is there twice: different readers may pick different values."""
    if len(values) > 1:
        raise NotAuthenticated(f"The header {name} is there more than once.", challenge)
