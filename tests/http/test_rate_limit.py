"""The steps that limit rates, on a clock of the test's own."""

from typing import Any

import pytest
import pytest_twisted

from imgservice.api.middleware.proxy_headers import ProxyHeaders
from imgservice.api.middleware.rate_limit import AddressLimit, CallerRates, RateLimit, RequestCosts
from imgservice.api.v2.table import ROUTES
from imgservice.domain.context import Context
from imgservice.domain.errors import Forbidden, NotAuthenticated, TooManyRequests
from imgservice.domain.rates import Buckets, Rate
from imgservice.http.networks import neighbourhood, networks
from imgservice.http.request import StreamingRequest
from imgservice.http.response import Response
from imgservice.http.route import Cost
from tests.http.offline import offline_request, passed
from tests.http.serving import Serving, Wire, echo

TOKEN = ("X-Auth-Token", "guess")
COSTS = RequestCosts({"v2": ROUTES})


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def goes_on(step: Any, request: StreamingRequest) -> bool:
    try:
        assert passed(step, request) is None
    except TooManyRequests as error:
        assert error.wait > 0
        return False
    return True


# -- addresses ------------------------------------------------------------------------------------


def test_an_address_has_its_burst_and_then_its_rate(clock: Clock) -> None:
    step = AddressLimit(Buckets(Rate(2, 5)), None, seconds=clock)
    assert [goes_on(step, offline_request()) for _ in range(7)] == [True] * 5 + [False] * 2
    assert goes_on(step, offline_request(peer="192.0.2.2")), "another address is not hurt"
    with pytest.raises(TooManyRequests) as caught:
        passed(step, offline_request())
    clock.now += caught.value.wait
    assert goes_on(step, offline_request())
    assert not goes_on(step, offline_request())


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.2", False),
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff:ffff:ffff:ffff", True),
        ("2001:db8:1:2::1", "2001:0DB8:0001:0002::9", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("fe80::1%eth0", "fe80::2%eth0", True),
        ("_hidden", "_other", False),
        ("a:b", "a:c", False),
        (f"a:{'b' * 100}", f"a:{'b' * 99}c", False),
    ],
)
def test_neighbourhoods(one: str, other: str, same: bool) -> None:
    assert (neighbourhood(one) == neighbourhood(other)) == same


def test_the_address_is_the_one_that_a_trusted_proxy_tells(clock: Clock) -> None:
    proxies = ProxyHeaders(networks(["192.0.2.1"]))
    step = AddressLimit(Buckets(Rate(1, 1)), None, seconds=clock)

    def comes(client: str, peer: str) -> bool:
        request = offline_request("/v2/images", ("X-Forwarded-For", client), peer=peer)
        passed(proxies, request)
        return goes_on(step, request)

    assert comes("198.51.100.1", "192.0.2.1")
    assert comes("198.51.100.2", "192.0.2.1")
    assert not comes("198.51.100.1", "192.0.2.1")
    assert comes("198.51.100.3", "192.0.2.9")
    assert not comes("198.51.100.4", "192.0.2.9"), "nobody else is believed"


@pytest.mark.parametrize("peer", ["10.1.2.3", "::ffff:10.1.2.3", "-"])
def test_exempt_addresses_and_those_without_one(clock: Clock, peer: str) -> None:
    exempt = networks(["10.0.0.0/8"])
    step = AddressLimit(Buckets(Rate(1, 1)), Buckets(Rate(1, 1)), exempt, clock)
    for _ in range(5):
        request = offline_request("/v2/images", TOKEN, peer=peer)
        assert goes_on(step, request)
        step.refused(request, NotAuthenticated("wrong"))


# -- guessing -------------------------------------------------------------------------------------


def guess(step: AddressLimit, *headers: tuple[str, str], peer: str = "192.0.2.1") -> bool:
    """Try something wrong; tell whether it was looked at."""
    request = offline_request("/v2/images", *headers, peer=peer)
    if not goes_on(step, request):
        return False
    step.refused(request, NotAuthenticated("wrong"))
    return True


@pytest.mark.parametrize(
    "header",
    [TOKEN, ("Authorization", "Basic eA=="), ("X-Storage-Token", "x"), ("X-Service-Token", "x")],
)
def test_guessing_is_limited(clock: Clock, header: tuple[str, str]) -> None:
    step = AddressLimit(None, Buckets(Rate(0.1, 3)), seconds=clock)
    assert [guess(step, header) for _ in range(5)] == [True] * 3 + [False] * 2
    assert guess(step, header, peer="192.0.2.2")
    clock.now += 10
    assert [guess(step, header) for _ in range(2)] == [True, False]


def test_who_brings_no_credentials_does_not_guess(clock: Clock) -> None:
    step = AddressLimit(None, Buckets(Rate(0.1, 3)), seconds=clock)
    assert all(guess(step) for _ in range(10))
    assert [guess(step, TOKEN) for _ in range(4)] == [True] * 3 + [False]
    assert guess(step), "and is not hurt by a guesser"


def test_guesses_at_the_same_time_are_paid_for_afterwards(clock: Clock) -> None:
    step = AddressLimit(None, Buckets(Rate(1, 3)), seconds=clock)
    together = [offline_request("/v2/images", TOKEN) for _ in range(13)]
    assert all(goes_on(step, request) for request in together)
    for request in together:
        step.refused(request, NotAuthenticated("wrong"))
    clock.now += 10.5
    assert not goes_on(step, offline_request("/v2/images", TOKEN))
    clock.now += 1
    assert goes_on(step, offline_request("/v2/images", TOKEN))


def test_other_failures_are_no_guesses(clock: Clock) -> None:
    step = AddressLimit(None, Buckets(Rate(0.1, 1)), seconds=clock)
    for error in (Forbidden("no"), TooManyRequests("no", 1), KeyError("bug"), None):
        for _ in range(3):
            request = offline_request("/v2/images", TOKEN)
            assert goes_on(step, request)
            step.refused(request, error)


@pytest_twisted.ensureDeferred
async def test_the_pipeline_tells_of_wrong_credentials(serve: Any, clock: Clock) -> None:
    async def authenticate(request: StreamingRequest) -> Response | None:
        if request.header("x-auth-token") != "right":
            raise NotAuthenticated("wrong")
        return None

    limit = AddressLimit(None, Buckets(Rate(0.1, 3)), seconds=clock)
    serving: Serving = serve(echo, steps=[limit, authenticate])

    def statuses(wire: Wire, *tokens: str) -> list[int]:
        found = []
        for token in tokens:
            wire.ask("GET", "/x", f"X-Auth-Token: {token}")
            found.append(wire.reply().status)
        return found

    tokens = ("right", "a", "right", "b", "c", "d", "right")
    expected = [200, 401, 200, 401, 401, 429, 429]
    assert await serving.talk(lambda wire: statuses(wire, *tokens)) == expected
    clock.now += 10
    assert await serving.talk(lambda wire: statuses(wire, "right", "right")) == [200, 200]


# -- users and projects ---------------------------------------------------------------------------


def step_of(clock: Clock, addresses: AddressLimit | None = None, **rates: Buckets) -> RateLimit:
    return RateLimit(
        CallerRates(**rates),
        ("admin", "Service"),
        addresses or AddressLimit(None, None),
        COSTS,
        clock,
    )


def by(
    user: str | None, project: str | None, *roles: str, method: str = "GET", path: str = "images"
) -> StreamingRequest:
    request = offline_request("/" + path, method=method)
    request.api_version = "v2"
    request.context = Context(user, project, frozenset(roles or ("member",)))
    return request


def test_users_and_projects_each_have_their_rate(clock: Clock) -> None:
    step = step_of(clock, by_user=Buckets(Rate(1, 2)), by_project=Buckets(Rate(1, 3)))
    assert [goes_on(step, by("alice", "red")) for _ in range(3)] == [True, True, False]
    assert [goes_on(step, by("bob", "red")) for _ in range(2)] == [True, False]
    assert [goes_on(step, by("carol", "blue")) for _ in range(3)] == [True, True, False]
    assert not goes_on(step, by("alice", "blue")), "a user has the same rate in all projects"


def test_who_is_refused_for_one_reason_pays_for_none(clock: Clock) -> None:
    step = step_of(clock, by_user=Buckets(Rate(1, 2)), by_project=Buckets(Rate(0.001, 3)))
    for _ in range(50):
        goes_on(step, by("alice", "red"))
    assert goes_on(step, by("bob", "red"))
    assert not goes_on(step, by("bob", "red"))


@pytest.mark.parametrize("role", ["admin", "service"])
def test_exempt_roles(clock: Clock, role: str) -> None:
    addresses = AddressLimit(Buckets(Rate(0.001, 2)), None, seconds=clock)
    one = Buckets(Rate(0.001, 1))
    step = step_of(clock, addresses, by_user=one, by_project=one, creates=one)
    for _ in range(50):
        request = by("boss", "ops", role, method="POST")
        assert goes_on(addresses, request) and goes_on(step, request)
    assert len(one) == 0
    for expected in (True, True, False):
        assert goes_on(addresses, by("alice", "red")) is expected


def test_who_asks_anonymously_counts_by_address_only(clock: Clock) -> None:
    one = Buckets(Rate(0.001, 1))
    step = step_of(clock, by_user=one, by_project=one)
    assert all(goes_on(step, by(None, None, "reader")) for _ in range(5))


def test_creates_are_counted_by_project_and_else_by_user(clock: Clock) -> None:
    step = step_of(clock, creates=Buckets(Rate(0.001, 1)))
    assert goes_on(step, by("alice", "red", method="POST"))
    assert not goes_on(step, by("bob", "red", method="POST"))
    assert goes_on(step, by("bob", "red", method="GET"))
    assert goes_on(step, by("carol", None, method="POST"))
    assert goes_on(step, by("dave", None, method="POST"))
    assert not goes_on(step, by("dave", None, method="POST"))


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("POST", "images", True),
        ("POST", "images/", True),
        ("POST", "images/1/members", True),
        ("POST", "images/1/locations", True),
        ("POST", "images/1/import", True),
        ("POST", "images/1/actions/deactivate", False),
        ("POST", "tasks", True),
        ("PATCH", "images/1", True),
        ("PUT", "images/1/tags/x", True),
        ("PUT", "images/1/file", False),
        ("PUT", "images/1/members/red", False),
        ("GET", "images/1/tags/x", False),
        ("HEAD", "images", False),
        ("DELETE", "images/1/tags/x", False),
    ],
)
def test_what_makes_rows(method: str, path: str, expected: bool) -> None:
    request = by("alice", "red", method=method, path=path)
    assert (COSTS(request) is Cost.CREATE) is expected
