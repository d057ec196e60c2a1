"""What is made of Keystone's answers about limits."""

import json
from collections.abc import Iterator
from typing import Any

import attrs
import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.web.client import BrowserLikePolicyForHTTPS

from imgservice.auth.keystone.limit_documents import Place, find_service
from imgservice.auth.keystone.limits import KeystoneLimits, LimitRules
from imgservice.domain.errors import Unavailable
from imgservice.domain.quota import MEBI, Quota, Resource
from imgservice.keystone.client import KeystoneClient
from tests.origin import Origin, origin

TOKEN = "gAAAAtoken"
LIMITS = "/v3/limits?service_id=s&project_id=p"
REGISTERED = "/v3/registered_limits?service_id=s"


def endpoint(id_: str, region: str | None, **more: Any) -> dict[str, Any]:
    return {"id": id_, "region_id": region, "interface": "public", **more}


def service(id_: str, type_: str, *endpoints: dict[str, Any]) -> dict[str, Any]:
    return {"id": id_, "type": type_, "name": f"the {type_}s", "endpoints": list(endpoints)}


def limit(name: str, most: object, region: str | None = "r", **more: Any) -> dict[str, Any]:
    which = "resource_limit" if more else "default_limit"
    return {"resource_name": name, "region_id": region, "service_id": "s", which: most, **more}


PAGES: dict[str, Any] = {
    "/v3/limits/model": {"model": {"name": "flat"}},
    "/v3/auth/catalog": {"catalog": [service("s", "image", endpoint("e", "r"))]},
    REGISTERED: {
        "registered_limits": [
            limit("image_size_total", 9, None),
            limit("image_size_total", 3),
            limit("image_size_total", 8, None),
            limit("image_stage_total", -1),
            limit("image_count_total", 7, None),
            limit("image_count_total", 6, "elsewhere"),
            limit("volumes", 5),
        ]
    },
    LIMITS: {
        "limits": [
            limit("image_count_total", 2, None, project_id="p"),
            limit("image_count_total", 1, "r", project_id="p"),
            limit("image_size_total", 1, None, project_id="p"),
            limit("image_size_total", 1, "r", project_id="another"),
            limit("image_count_uploading", 1, "r", project_id="p"),
        ]
    },
}
EXPECTED = Quota(
    "p",
    {
        Resource.SIZE_TOTAL: 3 * MEBI,
        Resource.COUNT_TOTAL: 2,
        Resource.COUNT_UPLOADING: 0,
    },
)


class Own:
    """A token that is always there."""

    async def get(self) -> str:
        return TOKEN

    def reject(self, token: str) -> None:
        """Keystone will not."""


@attrs.define
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def keystone() -> Iterator[Origin]:
    with origin() as server:
        for path, document in PAGES.items():
            answer(server, path, document)
        yield server


def answer(server: Origin, path: str, document: Any, status: int = 200) -> None:
    server.put(path, json.dumps(document).encode(), status=status)


MINUTE = LimitRules(timeout=5, cache_time=60)


def limits_of(
    server: Origin, clock: Clock | None = None, rules: LimitRules = MINUTE, **place: Any
) -> KeystoneLimits:
    client = KeystoneClient(reactor, [server.url("/v3")], BrowserLikePolicyForHTTPS(), 4, 5)
    return KeystoneLimits(reactor, client, Own(), Place(**place), rules, clock or Clock())


async def unavailable(limits: KeystoneLimits) -> None:
    with pytest.raises(Unavailable, match="limits of the project cannot be found out"):
        await limits.of("p")


@pytest_twisted.ensureDeferred
async def test_the_nearest_limit_holds(keystone: Origin) -> None:
    assert await limits_of(keystone).of("p") == EXPECTED
    assert {asked.headers["X-Auth-Token"] for asked in keystone.asked} == {TOKEN}


@pytest_twisted.ensureDeferred
async def test_answers_are_shared_and_remembered(keystone: Origin) -> None:
    clock = Clock()
    limits = limits_of(keystone, clock)
    asking = [Deferred.fromCoroutine(limits.of("p")) for _ in range(20)]
    assert await gatherResults(asking) == [EXPECTED] * 20
    assert sorted(asked.path for asked in keystone.asked) == sorted(PAGES)

    answer(keystone, LIMITS, {"limits": []})
    clock.now = 59
    assert await limits.of("p") == EXPECTED
    assert len(keystone.asked) == len(PAGES)
    clock.now = 61
    assert (await limits.of("p")).most[Resource.COUNT_TOTAL] == 7
    answer(keystone, LIMITS.replace("=p", "=q"), {"limits": []})
    await limits.of("q")
    assert len(keystone.asked) == 2 * len(PAGES) + 1


@pytest_twisted.ensureDeferred
async def test_a_change_counts_after_seconds(keystone: Origin) -> None:
    """Of what is registered for all and of a project's own limit, whichever was asked for last."""
    clock = Clock()
    limits = limits_of(keystone, clock, LimitRules())
    answer(keystone, LIMITS.replace("=p", "=q"), {"limits": []})
    assert await limits.of("p") == EXPECTED
    clock.now = 4.9
    assert (await limits.of("q")).most[Resource.SIZE_TOTAL] == 3 * MEBI
    answer(keystone, LIMITS, {"limits": []})
    answer(keystone, REGISTERED, {"registered_limits": [limit("image_size_total", 1)]})
    clock.now = 5.1
    for project in ("p", "q"):
        assert (await limits.of(project)).most[Resource.SIZE_TOTAL] == MEBI
    asked = [one.path for one in keystone.asked]
    assert (asked.count("/v3/auth/catalog"), asked.count(REGISTERED)) == (1, 2)


@pytest_twisted.ensureDeferred
async def test_failures_are_not_remembered(keystone: Origin) -> None:
    limits = limits_of(keystone)
    answer(keystone, LIMITS, {}, status=500)
    await unavailable(limits)
    answer(keystone, LIMITS, PAGES[LIMITS])
    assert await limits.of("p") == EXPECTED


@pytest_twisted.ensureDeferred
async def test_who_has_no_catalog_lists_the_services(keystone: Origin) -> None:
    answer(keystone, "/v3/auth/catalog", {"error": {"code": 403}}, status=403)
    answer(keystone, "/v3/services", {"services": [{"id": "s", "type": "image", "name": "x"}]})
    endpoints = [endpoint("e", "r", service_id="s"), endpoint("f", "r", service_id="t")]
    answer(keystone, "/v3/endpoints", {"endpoints": endpoints})
    assert await limits_of(keystone).of("p") == EXPECTED
    assert await limits_of(keystone, endpoint_id="e").of("p") == EXPECTED
    await unavailable(limits_of(keystone, endpoint_id="f"))


@pytest.mark.parametrize("status", [401, 403, 404, 302, 503])
@pytest.mark.parametrize("path", ["/v3/limits/model", REGISTERED, LIMITS])
@pytest_twisted.ensureDeferred
async def test_what_is_refused(keystone: Origin, path: str, status: int) -> None:
    answer(keystone, path, {"error": {"code": status}}, status=status)
    await unavailable(limits_of(keystone))


@pytest.mark.parametrize(
    ("path", "document"),
    [
        ("/v3/limits/model", {"model": {"name": "strict_two_level"}}),
        ("/v3/limits/model", {"model": "flat"}),
        ("/v3/auth/catalog", {"catalog": [{}]}),
        ("/v3/auth/catalog", {"catalog": 5}),
        ("/v3/auth/catalog", {"catalog": []}),
        (REGISTERED, {"registered_limits": {"image_size_total": 5}}),
        (REGISTERED, {"registered_limits": [limit("image_size_total", "5")]}),
        (REGISTERED, {"registered_limits": [limit("image_size_total", True)]}),
        (REGISTERED, {"registered_limits": [limit("image_size_total", 1.5)]}),
        (REGISTERED, {"registered_limits": [{"resource_name": "image_size_total"}]}),
        (REGISTERED, {"registered_limits": None}),
        (REGISTERED, {}),
        (REGISTERED, {**PAGES[REGISTERED], "truncated": True}),
        (REGISTERED, ["registered_limits"]),
        (LIMITS, {"limits": [limit("image_size_total", None, project_id="p")]}),
        (LIMITS, {"limits": [limit("image_size_total", 5)]}),
        (LIMITS, {"limits": "none"}),
    ],
)
@pytest_twisted.ensureDeferred
async def test_nonsense_is_no_limit(keystone: Origin, path: str, document: Any) -> None:
    answer(keystone, path, document)
    await unavailable(limits_of(keystone))


CATALOG = [
    service("i", "image", endpoint("i1", "one"), endpoint("i1b", "one"), endpoint("i2", "two")),
    service("c", "compute", endpoint("c1", "one")),
    service("n", "none"),
    service("o", "other", endpoint("o0", None)),
]


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ({"region": "one"}, ("i", "one")),
        ({"region": "two"}, ("i", "two")),
        ({"endpoint_id": "i2"}, ("i", "two")),
        ({"endpoint_id": "c1", "region": "two"}, ("c", "one")),
        ({"service": "compute"}, ("c", "one")),
        ({"service": "the computes"}, ("c", "one")),
        ({"service": "other"}, ("o", None)),
    ],
)
def test_our_place_in_the_catalog(place: Any, expected: tuple[str, str | None]) -> None:
    assert find_service(CATALOG, Place(**place)) == expected


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ({}, "more than one endpoint of the service image: i in one, i in two"),
        ({"region": "three"}, "no endpoint of the service image in the region three"),
        ({"service": "none"}, "no endpoint of the service none"),
        ({"endpoint_id": "x"}, "no endpoint x"),
    ],
)
def test_no_place_in_the_catalog(place: Any, message: str) -> None:
    with pytest.raises(Exception, match=message):
        find_service(CATALOG, Place(**place))
