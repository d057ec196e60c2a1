"""Identifies the caller by user name and password: HTTP Basic authentication."""

import base64
import binascii
from collections.abc import Callable

from imgservice.api.middleware.authorization import authorization
from imgservice.auth.htpasswd import Passwords
from imgservice.domain.context import Context
from imgservice.domain.errors import NotAuthenticated
from imgservice.http.networks import neighbourhood
from imgservice.http.request import StreamingRequest
from imgservice.http.response import Response

CHALLENGE = 'Basic realm="imgservice", charset="UTF-8"'
LONGEST = 2048
"""Bytes of the encoded user name and password."""


class Basic:
    """The mode `basic`; `users` returns the context of a user, None for one without a project."""

    def __init__(self, passwords: Passwords, users: Callable[[str], Context | None]) -> None:
        self._passwords = passwords
        self._users = users

    async def __call__(self, request: StreamingRequest) -> Response | None:
        encoded = authorization(request, b"basic", CHALLENGE)
        if encoded is None:
            return None
        user, password = _decoded(encoded)
        address = neighbourhood(request.source)
        if not await self._passwords.are_right(user, password, address):
            raise NotAuthenticated("The user or the password is wrong.", CHALLENGE)
        context = self._users(user)
        if context is None:
            raise NotAuthenticated(f"The user {user} has no project here.", CHALLENGE)
        request.context = context
        request.identified = True
        return None


def _decoded(encoded: bytes) -> tuple[str, bytes]:
    try:
        if len(encoded) > LONGEST:
            raise ValueError("too long")  # noqa: TRY301  handled like what cannot be decoded
        text = _text(base64.b64decode(encoded, validate=True))
    except (binascii.Error, ValueError):
        raise NotAuthenticated("The Authorization header is malformed.", CHALLENGE) from None
    user, colon, password = text.partition(":")
    if not colon or not user or not text.isprintable():
        raise NotAuthenticated("The Authorization header is malformed.", CHALLENGE)
    return user, password.encode()


def _text(raw: bytes) -> str:
    """Decode UTF-8, or Latin-1, which some clients send."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("latin-1")
