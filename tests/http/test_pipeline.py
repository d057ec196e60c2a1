"""The chain of steps: order, early answers, errors, and lists that make no sense."""

import re
from collections.abc import Callable

import pytest
import pytest_twisted
from twisted.logger import LogEvent

from imgservice.domain.errors import Forbidden
from imgservice.http.pipeline import ORDER, PipelineError, check_order
from imgservice.http.request import StreamingRequest
from imgservice.http.response import Response
from tests.http.serving import Serving, Wire, echo, pause

Serve = Callable[..., Serving]
GOOD = (
    "proxy_headers",
    "cors",
    "request_id",
    "gzip",
    "address_limit",
    "version",
    "auth_token",
    "context",
    "rate_limit",
)


class Mark:
    """A step that leaves its name in the path, and may answer or fail instead."""

    def __init__(
        self, name: str, answer: Response | None = None, error: Exception | None = None
    ) -> None:
        self._name, self._answer, self._error = name, answer, error

    async def __call__(self, request: StreamingRequest) -> Response | None:
        await pause(0)
        request.path += b"-" + self._name.encode()
        if self._error is not None:
            raise self._error
        return self._answer


def get(wire: Wire) -> tuple[int, bytes]:
    wire.ask("GET", "/x")
    reply = wire.reply()
    return reply.status, reply.body


@pytest_twisted.ensureDeferred
async def test_steps_run_in_their_order(serve: Serve) -> None:
    serving = serve(echo, steps=[Mark("one"), Mark("two"), Mark("three")])
    assert await serving.talk(get) == (200, b"GET /x-one-two-three ")


@pytest_twisted.ensureDeferred
async def test_answer_in_the_middle(serve: Serve) -> None:
    serving = serve(echo, steps=[Mark("one"), Mark("two", Response(203, b"two")), Mark("three")])
    assert await serving.talk(get) == (203, b"two")
    assert serving.site.logged[0].path == b"/x-one-two"


@pytest_twisted.ensureDeferred
async def test_domain_error_in_a_step(serve: Serve) -> None:
    serving = serve(echo, steps=[Mark("one", error=Forbidden("not you"))])
    status, body = await serving.talk(get)
    assert status == 403 and b"not you" in body


@pytest_twisted.ensureDeferred
async def test_bug_in_a_step(serve: Serve, logged: list[LogEvent]) -> None:
    serving = serve(echo, steps=[Mark("one", error=KeyError("secret"))])
    status, body = await serving.talk(get)
    assert status == 500 and b"secret" not in body
    (event,) = logged
    assert event["log_failure"].check(KeyError)
    logged.clear()


@pytest_twisted.ensureDeferred
async def test_client_leaves_amid_the_steps(serve: Serve) -> None:
    serving = serve(echo, steps=[Mark("one"), Mark("two")])
    await serving.talk(lambda wire: wire.ask("GET"))
    await serving.quiet()


@pytest_twisted.ensureDeferred
async def test_step_answers_a_request_with_a_body(serve_both: Serve) -> None:
    serving = serve_both(echo, steps=[Mark("one", Response(200, b"one"))])

    def client(wire: Wire) -> None:
        for _ in range(2):
            wire.ask("PUT", body=bytes(200_000))
            assert wire.reply().body == b"one"

    await serving.talk(client)


def test_good_orders() -> None:
    check_order(GOOD)
    check_order(("version", "auth_token", "context"))
    assert set(GOOD) == set(ORDER)


@pytest.mark.parametrize(
    ("names", "position", "message"),
    [
        (("version", "gzip", "auth_token", "context"), 0, "'version' must come after 'gzip'"),
        (("version", "auth_tokens"), 1, "unknown step 'auth_tokens'"),
        (("version", "context", "auth_token"), 1, "'context' needs 'auth_token' before it"),
        (("cors", "version", "cors", "auth_token", "context"), 2, "'cors' is there twice"),
        (("auth_token", "context"), 0, "'version' cannot be left out"),
        (("auth_token", "rate_limit"), 1, "'rate_limit' needs 'context' before it"),
        (("auth_token", "address_limit"), 0, "'auth_token' must come after 'address_limit'"),
        (("address_limit", "proxy_headers"), 0, "must come after 'proxy_headers'"),
        ((), 0, "'version' cannot be left out"),
    ],
)
def test_bad_order(names: tuple[str, ...], position: int, message: str) -> None:
    with pytest.raises(PipelineError, match=re.escape(message)) as caught:
        check_order(names)
    assert caught.value.position == position


@pytest_twisted.ensureDeferred
async def test_body_where_none_belongs(serve: Serve) -> None:
    def client(wire: Wire) -> None:
        wire.ask("PUT", "/bodyless", body=b"body")
        assert wire.reply().status == 400
        wire.ask("PUT", "/bodyless")
        assert wire.reply().status == 200

    await serve(echo).talk(client)
