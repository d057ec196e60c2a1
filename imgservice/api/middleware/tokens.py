"""Identifies the caller by a token of the operator's own file."""

from imgservice.api.middleware.authorization import authorization, only_one
from imgservice.auth.tokens import Tokens
from imgservice.domain.errors import NotAuthenticated
from imgservice.http.request import StreamingRequest
from imgservice.http.response import Response

CHALLENGE = 'Bearer realm="imgservice"'


class StaticTokens:
    """The mode `tokens`: X-Auth-Token as OpenStack clients send it, or Authorization: Bearer."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens

    async def __call__(self, request: StreamingRequest) -> Response | None:
        token = _token(request)
        if token is None:
            return None
        context = self._tokens.owner(token)
        if context is None:
            raise NotAuthenticated("The token is wrong or has expired.", CHALLENGE)
        request.context = context
        request.identified = True
        return None


def _token(request: StreamingRequest) -> bytes | None:
    values = request.requestHeaders.getRawHeaders(b"x-auth-token", [])
    only_one(values, "X-Auth-Token", CHALLENGE) if values else None
    bearer = authorization(request, b"bearer", CHALLENGE)
    if values and bearer is not None and bearer != values[0]:
        raise NotAuthenticated("X-Auth-Token and Authorization contradict each other.", CHALLENGE)
    return values[0] if values else bearer
