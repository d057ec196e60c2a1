"""Gives a request the context of its caller, or refuses it."""

import attrs

from imgservice.domain.access import Rules
from imgservice.domain.context import Context
from imgservice.domain.errors import NotAuthenticated
from imgservice.http.request import StreamingRequest
from imgservice.http.response import Response

ANONYMOUS = Context(roles=frozenset({"reader", "member"}), read_only=True)
"""May see and download public and community images, and change nothing."""


class RequireContext:
    def __init__(self, rules: Rules, anonymous_read: bool, challenge: str | None = None) -> None:
        self._rules = rules
        self._anonymous_read = anonymous_read
        self._challenge = challenge

    async def __call__(self, request: StreamingRequest) -> Response | None:
        if request.identified:
            if self._rules.allow(request.context, "context_is_admin", None):
                request.context = attrs.evolve(request.context, is_admin=True)
        elif self._anonymous_read:
            request.context = ANONYMOUS
        else:
            raise NotAuthenticated(
                "The request you have made requires authentication.", self._challenge
            )
        return None
