"""Each step by itself, with honest clients and with others."""

import contextlib
import re
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imgservice.api.middleware.auth_token import FixedIdentity, TrustedHeaders
from imgservice.api.middleware.context import ANONYMOUS, RequireContext
from imgservice.api.middleware.cors import Cors
from imgservice.api.middleware.proxy_headers import ProxyHeaders
from imgservice.api.middleware.request_id import RequestId
from imgservice.api.middleware.version import ONE_STORE, VersionNegotiation
from imgservice.domain.context import Context
from imgservice.domain.errors import HeaderTooLong, ImageServiceError, Invalid, NotAuthenticated
from imgservice.http.networks import networks
from imgservice.http.request import StreamingRequest
from imgservice.policy.defaults import DefaultRules
from tests.examples import examples
from tests.http.offline import offline_request, passed

header_text = st.text(st.characters(min_codepoint=1, max_codepoint=255, exclude_characters="\r\n"))
quick = settings(database=None, deadline=None, max_examples=examples(200))


# -- proxy_headers --------------------------------------------------------------------------------

PROXIES = networks(["10.0.0.0/8", "::1", "2001:db8::/32"])


def seen(*headers: tuple[str, str], peer: str = "10.0.0.1") -> tuple[str | None, str | None]:
    """Return the client's address and the base URL that the request seems to have."""
    request = offline_request("/v2/images", ("Host", "own:9292"), *headers, peer=peer)
    assert passed(ProxyHeaders(PROXIES), request) is None
    return request.client_address, request.base_url


@pytest.mark.parametrize("peer", ["192.0.2.1", "11.0.0.1", "-", "fe80::1"])
def test_untrusted_peer_is_not_believed(peer: str) -> None:
    told = (
        ("X-Forwarded-For", "1.2.3.4"),
        ("X-Forwarded-Host", "evil"),
        ("Forwarded", "for=1.2.3.4;host=evil"),
    )
    assert seen(*told, peer=peer) == (None, None)


@pytest.mark.parametrize("peer", ["10.0.0.1", "::ffff:10.0.0.1", "::1", "2001:db8::7"])
def test_trusted_peer_is_believed(peer: str) -> None:
    told = (
        ("X-Forwarded-For", "1.2.3.4"),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Host", "api"),
    )
    assert seen(*told, peer=peer) == ("1.2.3.4", "https://api")


@pytest.mark.parametrize(
    ("chain", "client"),
    [
        ("1.2.3.4", "1.2.3.4"),
        ("6.6.6.6, 1.2.3.4", "1.2.3.4"),
        ("6.6.6.6, 1.2.3.4, 10.9.9.9", "1.2.3.4"),
        ("10.7.7.7, 10.9.9.9", "10.7.7.7"),
        ("10.6.6.6, 1.2.3.4, 10.9.9.9, 10.8.8.8", "1.2.3.4"),
        ("unknown", "unknown"),
        ("2001:db9::1", "2001:db9::1"),
        ("1.2.3.4:5678", "1.2.3.4"),
        ("[2001:db9::1]:443", "2001:db9::1"),
        ("6.6.6.6, 1.2.3.4, 10.9.9.9:80", "1.2.3.4"),
        ("", None),
        (" , ,", None),
    ],
)
def test_chain_of_x_forwarded_for(chain: str, client: str | None) -> None:
    """What stands before the first address that we do not trust may be invented."""
    assert seen(("X-Forwarded-For", chain))[0] == client


@pytest.mark.parametrize(
    ("forwarded", "expected"),
    [
        ("for=1.2.3.4", ("1.2.3.4", None)),
        ("for=1.2.3.4;proto=https;host=api", ("1.2.3.4", "https://api")),
        ("FOR=1.2.3.4; Proto=HTTPS ;hOst=api:8443", ("1.2.3.4", "https://api:8443")),
        ('for="[2001:db9::1]:4711";proto=https', ("2001:db9::1", "https://own:9292")),
        ('for="1.2.3.4:4711"', ("1.2.3.4", None)),
        ("for=6.6.6.6, for=1.2.3.4, for=10.1.1.1", ("1.2.3.4", None)),
        ("for=_hidden", ("_hidden", None)),
        ("host=api", (None, "http://api")),
        ("garbage", (None, None)),
        ("", (None, None)),
    ],
)
def test_forwarded(forwarded: str, expected: tuple[str | None, str | None]) -> None:
    assert seen(("Forwarded", forwarded)) == expected


@pytest.mark.parametrize(
    ("headers", "client"),
    [
        ((("X-Forwarded-For", "6.6.6.6"), ("X-Forwarded-For", "1.2.3.4")), "1.2.3.4"),
        ((("X-Forwarded-For", "6.6.6.6"), ("X-Forwarded-For", "1.2.3.4, 10.1.1.1")), "1.2.3.4"),
        ((("X-Forwarded-For", "1.2.3.4"), ("X-Forwarded-For", "10.1.1.1")), "1.2.3.4"),
        ((("Forwarded", "for=6.6.6.6"), ("Forwarded", "for=1.2.3.4;proto=https")), "1.2.3.4"),
        ((("Forwarded", 'for="6.6.6.6,1.2.3.4"'), ("Forwarded", "for=1.2.3.4")), "1.2.3.4"),
        ((("Forwarded", 'x="for=6.6.6.6,",for=1.2.3.4'),), "1.2.3.4"),
        ((("Forwarded", 'for=1.2.3.4, for="10.1.1.1;by=x"'),), "10.1.1.1;by=x"),
        ((("Forwarded", 'for=6.6.6.6;"for=7.7.7.7,for=1.2.3.4'),), "1.2.3.4"),
    ],
)
def test_what_the_nearest_proxy_added_counts(
    headers: tuple[tuple[str, str], ...], client: str
) -> None:
    """HAProxy appends a header of its own, and leaves the client's alone."""
    assert seen(*headers)[0] == client


def test_forwarded_goes_before_the_old_headers() -> None:
    told = (
        ("Forwarded", "for=1.2.3.4;host=new"),
        ("X-Forwarded-For", "5.6.7.8"),
        ("X-Forwarded-Host", "old"),
    )
    assert seen(*told) == ("1.2.3.4", "http://new")


@pytest.mark.parametrize(
    ("headers", "base"),
    [
        ((("X-Forwarded-Prefix", "/image"),), "http://own:9292/image"),
        ((("X-Forwarded-Prefix", "/image/"),), "http://own:9292/image"),
        ((("X-Forwarded-Prefix", "//evil.com"),), None),
        ((("X-Forwarded-Prefix", "/a b"),), None),
        ((("X-Forwarded-Proto", "javascript"),), "http://own:9292"),
        ((("X-Forwarded-Proto", "https,http"),), "https://own:9292"),
        ((("X-Forwarded-Host", "a/b"),), None),
        ((("X-Forwarded-Host", "<script>"),), None),
        ((("X-Forwarded-Host", "[::1]:80"),), "http://[::1]:80"),
    ],
)
def test_base_url(headers: tuple[tuple[str, str], ...], base: str | None) -> None:
    assert seen(*headers)[1] == base


@quick
@given(header_text, header_text, header_text, header_text)
def test_whatever_a_proxy_tells_is_survived(one: str, two: str, three: str, four: str) -> None:
    seen(("Forwarded", one))
    seen(
        ("X-Forwarded-For", one),
        ("X-Forwarded-Host", two),
        ("X-Forwarded-Proto", three),
        ("X-Forwarded-Prefix", four),
    )


@quick
@given(
    st.lists(
        st.sampled_from(
            [
                "for=",
                "1.2.3.4",
                ";",
                ",",
                '"',
                "[",
                "]",
                ":",
                "=",
                " ",
                "host=a",
                "\\",
                "proto=https",
            ]
        )
    )
)
def test_almost_forwarded(parts: list[str]) -> None:
    seen(("Forwarded", "".join(parts)))


# -- request_id -----------------------------------------------------------------------------------


def identified(*given: str | bytes, longest: int = 64) -> str:
    request = offline_request("/", *(("X-Openstack-Request-Id", one) for one in given))
    assert passed(RequestId(longest), request) is None
    told = request.responseHeaders.getRawHeaders("x-openstack-request-id")
    assert told == [request.request_id]
    return request.request_id


def test_new_request_id() -> None:
    one, other = identified(), identified()
    pattern = "req-[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-a[0-9a-f]{3}-[0-9a-f]{12}"
    assert re.fullmatch(pattern, one) and one != other


@pytest.mark.parametrize(("given", "expected"), [("req-abc", "req-abc"), ("abc", "req-abc")])
def test_given_request_id(given: str, expected: str) -> None:
    assert identified(given) == expected


def test_longest_request_id() -> None:
    assert identified("x" * 64) == "req-" + "x" * 64
    with pytest.raises(HeaderTooLong):
        identified("x" * 65)


@pytest.mark.parametrize("given", [b"a\tb", b"a\x7f", b"\xc3\xa9", b"\x80", b"a\x1b[31m"])
def test_odd_request_id(given: bytes) -> None:
    with pytest.raises(Invalid):
        identified(given)


@quick
@given(header_text)
def test_any_request_id(given: str) -> None:
    try:
        request_id = identified(given)
    except ImageServiceError:
        return
    assert request_id.startswith("req-") and request_id.isascii() and request_id.isprintable()


# -- version --------------------------------------------------------------------------------------


def negotiated(
    path: str, *headers: tuple[str, str], public_url: str | None = None, newest: str | None = None
) -> tuple[StreamingRequest, object]:
    request = offline_request(path, ("Host", "here:9292"), *headers)
    return request, passed(VersionNegotiation(public_url, newest), request)


def _listed(path: str, status: int, **options: Any) -> list[dict[str, object]]:
    _, answer = negotiated(path, **options)
    assert answer.status == status  # type: ignore[attr-defined]
    versions: list[dict[str, object]] = orjson.loads(answer.body)["versions"]  # type: ignore[attr-defined]
    return versions


@pytest.mark.parametrize(
    "path",
    ["/", "/v1", "/v9", "/v2.18", "/v3/images", "/images", "/V2", "/v02", "/versions/x", "//v3"],
)
def test_anything_else_is_a_list_of_versions(path: str) -> None:
    assert _listed(path, 300)[0]["links"] == [{"rel": "self", "href": "http://here:9292/v2/"}]


@pytest.mark.parametrize("path", ["/versions", "/versions/"])
def test_list_of_versions(path: str) -> None:
    versions = _listed(path, 200)
    assert [one["id"] for one in versions if one["status"] == "CURRENT"] == ["v2.17"]
    assert {"v2.0", "v2.7", "v2.9", "v2.15"} <= {one["id"] for one in versions}
    assert not {"v2.14", "v2.16", "v2.18"} & {one["id"] for one in versions}


def test_public_url_is_what_clients_are_told() -> None:
    (first, *_) = _listed("/", 300, public_url="https://api/image")
    assert first["links"] == [{"rel": "self", "href": "https://api/image/v2/"}]


def test_newest_version_is_capped() -> None:
    versions = _listed("/versions", 200, newest="2.9")
    assert [one["id"] for one in versions if one["status"] == "CURRENT"] == ["v2.9"]
    assert "v2.10" not in {one["id"] for one in versions}
    assert _listed("/v2.15/images", 300, newest="2.9")


def test_versions_of_a_service_with_one_store() -> None:
    step = VersionNegotiation(None, None, ONE_STORE)
    answer = passed(step, offline_request("/versions", ("Host", "here")))
    versions = orjson.loads(answer.body)["versions"]  # type: ignore[union-attr]
    found = [one["id"] for one in versions]
    assert found == ["v2.15", "v2.9", "v2.17", *(f"v2.{minor}" for minor in range(7, -1, -1))]
    for minor, status in ((8, 300), (9, None), (13, 300), (15, None)):
        answer = passed(step, offline_request(f"/v2.{minor}/images", ("Host", "here")))
        assert getattr(answer, "status", None) == status


@pytest.mark.parametrize("version", ["v2", "v2.0", "v2.9", "v2.17"])
def test_version_in_the_path(version: str) -> None:
    request, answer = negotiated(f"/{version}/images/1")
    assert answer is None
    assert (request.api_version, request.postpath) == ("v2", [b"images", b"1"])
    assert request.prepath == [version.encode()]


@pytest.mark.parametrize("version", ["v2", "v2.3"])
def test_version_without_a_slash(version: str) -> None:
    _, answer = negotiated(f"/{version}")
    assert answer.status == 302  # type: ignore[attr-defined]
    assert answer.headers == {"location": "http://here:9292/v2/"}  # type: ignore[attr-defined]


def test_version_in_accept() -> None:
    accept = ("Accept", "application/vnd.openstack.images-v2.3")
    request, answer = negotiated("/images", accept)
    assert answer is None
    assert (request.api_version, request.postpath) == ("v2", [b"images"])


@pytest.mark.parametrize(
    "accept", ["application/vnd.openstack.images-v9", "application/json", "v2", ""]
)
def test_no_version_in_accept(accept: str) -> None:
    _, answer = negotiated("/images", ("Accept", accept))
    assert answer.status == 300  # type: ignore[attr-defined]


@quick
@given(st.binary(max_size=30), header_text)
def test_any_path(path: bytes, accept: str) -> None:
    request = offline_request("/", ("Host", "here"), ("Accept", accept))
    request.postpath = path.split(b"/")
    with contextlib.suppress(ImageServiceError):
        passed(VersionNegotiation(None, None), request)


# -- auth_token and context -----------------------------------------------------------------------

TRUSTED = TrustedHeaders(networks(["192.0.2.0/24"]))
CONFIRMED = (
    ("X-Identity-Status", "Confirmed"),
    ("X-User-Id", "ann"),
    ("X-Project-Id", "apollo"),
    ("X-Roles", "Member, READER,,"),
)


def test_everybody_is_the_configured_user() -> None:
    somebody = Context("me", "mine", frozenset({"member"}))
    request = offline_request("/", *CONFIRMED)
    assert passed(FixedIdentity(somebody), request) is None
    assert request.identified and request.context == somebody


def test_trusted_headers() -> None:
    request = offline_request("/", *CONFIRMED)
    assert passed(TRUSTED, request) is None
    assert request.identified
    assert request.context == Context("ann", "apollo", frozenset({"member", "reader"}))


def test_old_name_of_the_project() -> None:
    request = offline_request("/", CONFIRMED[0], ("X-Tenant-Id", "apollo"))
    passed(TRUSTED, request)
    assert request.context.project == "apollo"


@pytest.mark.parametrize("peer", ["192.0.3.1", "-", "::1", "10.0.0.1"])
def test_untrusted_address_is_ignored(peer: str) -> None:
    request = offline_request("/", *CONFIRMED, peer=peer)
    passed(TRUSTED, request)
    assert not request.identified and request.context == Context()


def test_address_told_by_a_proxy_does_not_count() -> None:
    """The peer is what must be trusted, not what it says about where it comes from."""
    request = offline_request("/", *CONFIRMED, ("X-Forwarded-For", "192.0.2.7"), peer="10.0.0.1")
    passed(ProxyHeaders(PROXIES), request)
    passed(TRUSTED, request)
    assert request.client_address == "192.0.2.7" and not request.identified


@pytest.mark.parametrize("status", ["Invalid", "", "confirmed, invalid"])
def test_unconfirmed_identity(status: str) -> None:
    request = offline_request("/", ("X-Identity-Status", status), *CONFIRMED[1:])
    passed(TRUSTED, request)
    assert not request.identified


@pytest.mark.parametrize("name", [name for name, _ in CONFIRMED])
def test_header_that_is_there_twice(name: str) -> None:
    with pytest.raises(NotAuthenticated, match="more than once"):
        passed(TRUSTED, offline_request("/", *CONFIRMED, (name, "admin")))


def test_nobody_is_turned_away() -> None:
    with pytest.raises(NotAuthenticated):
        passed(RequireContext(DefaultRules(), anonymous_read=False), offline_request("/"))


def test_anonymous_may_read() -> None:
    request = offline_request("/")
    assert passed(RequireContext(DefaultRules(), anonymous_read=True), request) is None
    assert request.context == ANONYMOUS and request.context.read_only
    assert not request.context.is_admin


@pytest.mark.parametrize(
    ("roles", "is_admin"), [("admin", True), ("Admin,member", True), ("administrator", False)]
)
def test_admin_is_who_has_the_role(roles: str, is_admin: bool) -> None:
    request = offline_request("/", *CONFIRMED[:3], ("X-Roles", roles))
    passed(TRUSTED, request)
    passed(RequireContext(DefaultRules(), anonymous_read=True), request)
    assert request.context.is_admin is is_admin and not request.context.read_only


@quick
@given(st.lists(st.tuples(st.sampled_from([name for name, _ in CONFIRMED]), header_text)))
def test_any_identity(headers: list[tuple[str, str]]) -> None:
    with contextlib.suppress(ImageServiceError):
        passed(TRUSTED, offline_request("/", *headers))


# -- cors -----------------------------------------------------------------------------------------

HORIZON = "https://horizon.example"


def preflight(*headers: tuple[str, str], origins: tuple[str, ...] = (HORIZON,)) -> dict[str, str]:
    answer = passed(Cors(origins, True, 3600), offline_request("/v2", *headers, method="OPTIONS"))
    assert answer is not None and answer.status == 200
    return dict(answer.headers)


def test_preflight() -> None:
    headers = preflight(
        ("Origin", HORIZON),
        ("Access-Control-Request-Method", "PUT"),
        ("Access-Control-Request-Headers", "X-Auth-Token, content-type"),
    )
    assert headers["access-control-allow-origin"] == HORIZON
    assert headers["access-control-allow-methods"] == "PUT"
    assert headers["access-control-allow-credentials"] == "true"
    assert headers["access-control-max-age"] == "3600"


@pytest.mark.parametrize(
    "headers",
    [
        (("Origin", "https://evil.example"), ("Access-Control-Request-Method", "PUT")),
        (("Origin", HORIZON), ("Access-Control-Request-Method", "TRACE")),
        (("Origin", HORIZON),),
        (
            ("Origin", HORIZON),
            ("Access-Control-Request-Method", "PUT"),
            ("Access-Control-Request-Headers", "X-Evil"),
        ),
        (),
    ],
)
def test_refused_preflight(headers: tuple[tuple[str, str], ...]) -> None:
    assert preflight(*headers) == {}


def test_any_origin_never_with_credentials() -> None:
    headers = preflight(
        ("Origin", "https://x"), ("Access-Control-Request-Method", "GET"), origins=("*",)
    )
    assert headers["access-control-allow-origin"] == "https://x"
    assert "access-control-allow-credentials" not in headers


@pytest.mark.parametrize(("origin", "allowed"), [(HORIZON, [HORIZON]), ("https://evil", None)])
def test_actual_request(origin: str, allowed: list[str] | None) -> None:
    request = offline_request("/v2", ("Origin", origin))
    assert passed(Cors((HORIZON,), False, 0), request) is None
    assert request.responseHeaders.getRawHeaders("access-control-allow-origin") == allowed


def test_without_origins_nobody_is_let_in() -> None:
    headers = (("Origin", HORIZON), ("Access-Control-Request-Method", "PUT"))
    assert preflight(*headers, origins=()) == {}
    request = offline_request("/v2", *headers)
    assert passed(Cors((), True, 0), request) is None
    assert not request.responseHeaders.hasHeader("access-control-allow-origin")


def test_origin_that_is_not_text() -> None:
    assert passed(Cors((HORIZON,), True, 0), offline_request("/v2", ("Origin", b"\xff"))) is None
