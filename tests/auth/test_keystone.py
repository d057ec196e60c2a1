"""What is told from Keystone's answers, how long it is believed, and who waits how long."""

import re
import time
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from imgservice.auth.cache import Cache
from imgservice.auth.keystone.access_rules import AccessRule, matches, permits
from imgservice.auth.keystone.fair_queue import FairQueue
from imgservice.auth.keystone.identity import read_identity
from imgservice.concurrency.single_flight import SingleFlight
from imgservice.keystone.errors import KeystoneError
from tests.examples import examples

quick = settings(database=None, deadline=None, max_examples=examples(300))

TOKEN: dict[str, Any] = {
    "user": {"id": "u", "name": "demo", "domain": {"id": "default", "name": "Default"}},
    "project": {"id": "p", "name": "demo", "domain": {"id": "other"}},
    "roles": [{"id": "1", "name": "Member"}, {"id": "2", "name": "reader"}],
    "expires_at": "2026-11-21T20:52:34.000000Z",
}


# -- identities -----------------------------------------------------------------------------------


def test_project_scope() -> None:
    identity = read_identity({"token": TOKEN})
    assert identity is not None
    context = identity.context
    assert (context.user, context.project) == ("u", "p")
    assert (context.user_domain, context.project_domain) == ("default", "other")
    assert context.roles == {"member", "reader"}
    assert (context.system_scope, context.is_admin, context.read_only) == (None, False, False)
    assert identity.expires == 1795294354.0
    assert identity.access_rules is None


@pytest.mark.parametrize("scope", [{}, {"domain": {"id": "default"}}, {"system": {"all": False}}])
def test_other_scopes_have_no_project(scope: dict[str, Any]) -> None:
    token = {key: value for key, value in TOKEN.items() if key != "project"}
    identity = read_identity({"token": {**token, **scope}})
    assert identity is not None
    assert (identity.context.project, identity.context.project_domain) == (None, None)
    assert identity.context.system_scope is None


def test_system_scope() -> None:
    token = {key: value for key, value in TOKEN.items() if key != "project"}
    identity = read_identity({"token": {**token, "system": {"all": True}}})
    assert identity is not None
    assert identity.context.system_scope == "all"


def test_a_token_bound_to_something_else_is_not_taken() -> None:
    assert read_identity({"token": {**TOKEN, "bind": {"kerberos": "demo@EXAMPLE"}}}) is None


@pytest.mark.parametrize("name", ["user", "expires_at"])
def test_what_must_be_there(name: str) -> None:
    with pytest.raises(KeystoneError):
        read_identity({"token": {key: value for key, value in TOKEN.items() if key != name}})


@pytest.mark.parametrize(
    "nonsense",
    [
        {"user": {"id": "", "domain": {"id": "d"}}},
        {"user": {"id": 7, "domain": {"id": "d"}}},
        {"user": {"id": "u"}},
        {"user": None},
        {"project": {"id": None}},
        {"project": "p"},
        {"roles": "admin"},
        {"roles": [{"name": None}]},
        {"roles": {"name": "admin"}},
        {"system": "all"},
        {"expires_at": "soon"},
        {"expires_at": "2026-11-21T20:52:34"},
        {"expires_at": 1795294354},
        {"application_credential": {"access_rules": "all"}},
        {"application_credential": {"access_rules": [{}]}},
    ],
)
def test_nonsense_is_nobody(nonsense: dict[str, Any]) -> None:
    with pytest.raises(KeystoneError):
        read_identity({"token": {**TOKEN, **nonsense}})


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


@quick
@given(st.sampled_from([*TOKEN, "system", "application_credential", "bind"]), json_values)
def test_any_nonsense_is_noticed(name: str, value: Any) -> None:
    try:
        identity = read_identity({"token": {**TOKEN, name: value}})
    except KeystoneError:
        return
    assert identity is None or isinstance(identity.context.user, str)


@quick
@given(json_values)
def test_any_document_is_survived(value: Any) -> None:
    for document in (value, {"token": value}):
        with suppress(KeystoneError):
            assert read_identity(document) is None


# -- access rules ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("/v2/images", "/v2/images", True),
        ("/v2/images", "/v2/images/", False),
        ("/v2/images", "/v2/imagesx", False),
        ("/v2/images", "/v2/image", False),
        ("/v2/images/*", "/v2/images/7", True),
        ("/v2/images/*", "/v2/images/", False),
        ("/v2/images/*", "/v2/images/7/file", False),
        ("/v2/images/{image_id}", "/v2/images/7", True),
        ("/v2/images/{image_id}/file", "/v2/images/7/file", True),
        ("/v2/images/{image_id}/file", "/v2/images/7", False),
        ("/v2/images/**", "/v2/images/7/file", True),
        ("/v2/images/**", "/v2/images/", True),
        ("/v2/images/**", "/v2/images", False),
        ("/v2/**/file", "/v2/images/7/file", True),
        ("**", "/anything/at/all", True),
        ("/v2.images", "/v2ximages", False),
        ("/v2/*a*/x", "/v2/bab/x", True),
        ("/v2/*a*/x", "/v2/ab/x", False),
        ("/v2/{unclosed", "/v2/{unclosed", True),
        ("", "/", False),
        ("/{a}**b", "/xb", True),
        ("/{a}**b", "/b", False),
        ("***", "a", True),
        ("***", "", False),
        ("{}", "a", True),
    ],
)
def test_patterns(pattern: str, path: str, expected: bool) -> None:
    assert matches(pattern, path) is expected


wildcards = {"**": ".*", "*": "[^/]+", "{x}": "[^/]+", "a": "a", "b": "b", "/": "/"}


@quick
@given(st.lists(st.sampled_from(list(wildcards)), max_size=6), st.text("ab/", max_size=6))
def test_patterns_mean_what_the_expressions_would(parts: list[str], path: str) -> None:
    pattern = "-".join(parts)  # else two * would be another wildcard
    expression = "-".join(wildcards[part] for part in parts)
    for candidate in (path, "-".join(path), path.replace("/", "-")):
        assert matches(pattern, candidate) is bool(re.fullmatch(expression, candidate))


def test_rules_name_service_and_method() -> None:
    rules = [AccessRule("image", "GET", "/v2/images/*"), AccessRule("compute", "POST", "**")]
    assert permits(rules, "GET", "/v2/images/7")
    assert not permits(rules, "POST", "/v2/images/7")
    assert not permits(rules, "GET", "/v2/images/7/file")
    assert permits(None, "GET", "/v2/images/7/file")
    assert not permits([], "GET", "/v2/images/7")


def test_a_hidden_slash_is_a_slash() -> None:
    """Else a token for the document of an image would be good for its data."""
    rules = [AccessRule("image", "GET", "/v2/images/*")]
    assert not permits(rules, "GET", "/v2/images/7%2Ffile")
    assert not permits(rules, "GET", "/v2/images/7%2ffile")


def test_patterns_cannot_keep_us_busy() -> None:
    """Users write the patterns; one that makes a program try all ways takes very long."""
    begin = time.process_time()
    for part in ("**a", "*a", "{x}a", "**", "{x}**"):
        assert not matches(part * (255 // len(part)) + "!", "a" * 2048)
    assert not permits([AccessRule("image", "GET", "**")], "GET", "/" * 100_000)
    assert time.process_time() - begin < 1


# -- the cache ------------------------------------------------------------------------------------


class Moment:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_cache_forgets_after_a_time() -> None:
    moment = Moment()
    cache: Cache[str] = Cache(10, moment)
    cache.put(b"a", "A", 5)
    moment.now += 4.9
    assert cache.get(b"a") == "A"
    moment.now += 0.1
    assert cache.get(b"a") is None
    assert len(cache) == 0


def test_cache_forgets_the_least_used() -> None:
    cache: Cache[int] = Cache(3)
    for number in range(3):
        cache.put(bytes([number]), number, 60)
    cache.get(b"\0")
    cache.put(b"\3", 3, 60)
    assert [cache.get(bytes([number])) for number in range(4)] == [0, None, 2, 3]


def test_cache_of_nothing() -> None:
    cache: Cache[int] = Cache(3)
    cache.put(b"a", 1, 0)
    none: Cache[int] = Cache(0)
    none.put(b"a", 1, 60)
    assert (cache.get(b"a"), none.get(b"a")) == (None, None)


# -- those who wait -------------------------------------------------------------------------------


class Waiting:
    """All who have come to a fair queue, by their source."""

    def __init__(self, places: int = 1, room: int = 100) -> None:
        self.clock = Clock()
        self.queue = FairQueue(self.clock, places, room)
        self.entered: list[str] = []
        self.refused: list[str] = []

    def come(self, *sources: str, timeout: float = 10.0) -> None:
        for source in sources:
            entering = Deferred.fromCoroutine(self.queue.enter(source, timeout))
            entering.addCallbacks(
                lambda _, source=source: self.entered.append(source),
                lambda failure, source=source: self._refuse(failure, source),
            )

    def _refuse(self, failure: Failure, source: str) -> None:
        failure.trap(KeystoneError)
        self.refused.append(source)

    def leave(self, count: int) -> None:
        for _ in range(count):
            self.queue.leave()


def test_places_are_taken_in_turns() -> None:
    waiting = Waiting()
    waiting.come("a", "a", "a", "a", "b", "c", "b")
    waiting.leave(6)
    assert waiting.entered == ["a", "a", "b", "c", "a", "b", "a"]
    assert waiting.refused == []


def test_all_places_come_back() -> None:
    waiting = Waiting(places=2)
    waiting.come("a", "a", "a")
    waiting.leave(3)
    waiting.come("b", "b", "b")
    assert waiting.entered == ["a", "a", "a", "b", "b"]


def test_the_longest_line_gives_way() -> None:
    waiting = Waiting(room=3)
    waiting.come("a", "a", "a", "a", "a")
    assert waiting.refused == ["a"]
    waiting.come("b")
    assert waiting.refused == ["a", "a"]
    waiting.come("b")
    assert waiting.refused == ["a", "a", "b"]
    waiting.leave(4)
    assert waiting.entered == ["a", "a", "b", "a"]


def test_nobody_waits_for_ever() -> None:
    waiting = Waiting()
    waiting.come("a", "a", "b", timeout=5)
    waiting.clock.advance(5)
    assert waiting.refused == ["a", "b"]
    waiting.leave(1)
    waiting.come("c")
    assert waiting.entered == ["a", "c"]


def test_work_is_shared() -> None:
    once: SingleFlight[str, int] = SingleFlight()
    begun: list[str] = []
    end: Deferred[int] = Deferred()

    async def work() -> int:
        begun.append("work")
        return await end

    results: list[int] = []
    leaving = once.share("key", work)
    leaving.addErrback(lambda _: None)
    for _ in range(3):
        once.share("key", work).addCallback(results.append)
    leaving.cancel()
    end.callback(7)
    assert (begun, results) == (["work"], [7, 7, 7])
    once.share("key", work)
    assert begun == ["work", "work"]


def test_failure_is_shared_and_forgotten() -> None:
    once: SingleFlight[str, int] = SingleFlight()
    failures: list[Failure] = []

    async def fail() -> int:
        raise KeystoneError("no")

    once.share("key", fail).addErrback(failures.append)
    once.share("key", fail).addErrback(failures.append)
    assert [type(failure.value) for failure in failures] == [KeystoneError] * 2
