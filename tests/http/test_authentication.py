"""The steps of our own modes, with whatever a client may send."""

import base64
import hashlib
from collections.abc import Iterator, Mapping
from typing import Any, cast

import bcrypt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet import reactor as installed_reactor

from imgservice.api.middleware.auth_token import FixedIdentity
from imgservice.api.middleware.basic import Basic
from imgservice.api.middleware.browsers import Guarded, KnownHosts, SameOrigin, host_of
from imgservice.api.middleware.client_certificate import ClientCertificate
from imgservice.api.middleware.context import RequireContext
from imgservice.api.middleware.proxy_headers import ProxyHeaders
from imgservice.api.middleware.tokens import StaticTokens
from imgservice.auth.htpasswd import Htpasswd, Passwords
from imgservice.auth.tokens import Tokens
from imgservice.concurrency.threads import Threads
from imgservice.domain.context import Context
from imgservice.domain.errors import Forbidden, NotAuthenticated
from imgservice.http.networks import networks
from imgservice.http.pipeline import Step
from imgservice.policy.defaults import DefaultRules
from tests.examples import examples
from tests.http.offline import offline_request, passed

ANN = Context("ann", "apollo", frozenset({"reader"}))
TOKEN = b"imgsvc-token"
header = st.binary(max_size=60).filter(lambda raw: not {0, 10, 13} & set(raw))
quick = settings(database=None, deadline=None, max_examples=examples(300))

tokens = StaticTokens(
    Tokens(lambda: {hashlib.sha256(TOKEN).digest(): (ANN, 1000.0)}, clock=lambda: 0.0)
)


def outcome(step: Step, *headers: tuple[str, str | bytes]) -> Context | str | None:
    request = offline_request("/v2/images", *headers)
    try:
        passed(step, request)
    except (NotAuthenticated, Forbidden) as error:
        return type(error).__name__
    return request.context if request.identified else None


@pytest.fixture(scope="module")
def basic() -> Iterator[Basic]:
    """A step whose threads are never asked, because nothing that is sent can be decoded."""
    threads = Threads(cast(Any, installed_reactor), 1, "test")
    known = Htpasswd({"ann": bcrypt.hashpw(b"x", bcrypt.gensalt(4))}, b"")
    yield Basic(Passwords(lambda: known, threads), lambda user: ANN)
    threads.stop()


@quick
@given(st.lists(header | header.map(lambda raw: b"Basic " + raw), min_size=1, max_size=2))
def test_any_authorization_is_refused_by_basic(basic: Basic, values: list[bytes]) -> None:
    if len(values) == 1 and b":" in _decoded(values[0]):
        return  # something that looks like a user and a password
    assert outcome(basic, *(("Authorization", value) for value in values)) == "NotAuthenticated"


def _decoded(value: bytes) -> bytes:
    try:
        return base64.b64decode(value.strip()[5:].strip(), validate=True)
    except ValueError:
        return b""


names = st.sampled_from(["Authorization", "X-Auth-Token"])
values = header | st.sampled_from([TOKEN, b"Bearer " + TOKEN, b"bearer " + TOKEN, b"Bearer x"])


@quick
@given(st.lists(st.tuples(names, values), max_size=3))
def test_any_headers_of_tokens(headers: list[tuple[str, bytes]]) -> None:
    """Only the token is accepted, at most once in each of the headers."""
    shown: Mapping[str, list[bytes]] = {
        name: [value.strip() for key, value in headers if key == name]
        for name in ("Authorization", "X-Auth-Token")
    }
    bearer = [value[7:] for value in shown["Authorization"] if value[:7].lower() == b"bearer "]
    right = shown["X-Auth-Token"] + bearer
    found = outcome(tokens, *headers)
    if not headers:
        assert found is None
    elif (
        len(headers) == len(right) and set(right) == {TOKEN} and max(map(len, shown.values())) == 1
    ):
        assert found == ANN
    else:
        assert found == "NotAuthenticated"


def test_a_step_without_tls_knows_no_certificate() -> None:
    assert outcome(ClientCertificate(lambda: {"CN=ann": ANN})) is None


@quick
@given(st.lists(st.tuples(st.sampled_from(["Host", "Origin", "Sec-Fetch-Site"]), header)))
def test_any_headers_of_browsers(headers: list[tuple[str, bytes]]) -> None:
    guards = (KnownHosts((), "x"), SameOrigin((), "http://[["))
    step = Guarded(guards, FixedIdentity(ANN))
    assert outcome(step, *headers) in (ANN, "Forbidden")


@quick
@given(st.text(st.characters(min_codepoint=33, max_codepoint=126)), header)
def test_any_host_told_by_a_proxy(host: str, told: bytes) -> None:
    request = offline_request("/", ("Host", host), ("X-Forwarded-Host", told), peer="10.0.0.1")
    passed(ProxyHeaders(networks(["10.0.0.1"])), request)
    try:
        KnownHosts((), "x")(request)
        SameOrigin((), None)(request)
    except Forbidden:
        return
    assert host_of(host) in ("", "localhost") or _looks_like_an_address(host_of(host))


def _looks_like_an_address(host: str) -> bool:
    return set(host) <= set("0123456789abcdef.:%") or ":" in host


def test_a_unix_socket_goes_by_any_name() -> None:
    KnownHosts((), "x")(offline_request("/", ("Host", "imgservice"), peer="-"))


def test_one_without_proof_is_told_how_to_prove_himself() -> None:
    request = offline_request("/v2/images")
    passed(tokens, request)
    with pytest.raises(NotAuthenticated) as caught:
        passed(RequireContext(DefaultRules(), False, "Bearer x"), request)
    assert caught.value.challenge == "Bearer x"
