"""Web pages that are open on the same machine, against modes whose proof a browser brings along."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.real.accounts import basic, write_htpasswd
from tests.real.client import Client, Reply
from tests.real.roles import identity
from tests.real.service import Service, running

EVIL = "https://evil.example"
PLAIN = {"Content-Type": "text/plain;charset=UTF-8"}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    options = {
        "server": {"public_url": "http://Images.example:8080/image"},
        "auth": {"none": {"hosts": ["box.example"]}},
        "cors": {"allowed_origins": ["https://horizon.example"]},
    }
    with running(tmp_path_factory.mktemp("browsers"), options) as started:
        yield started


def with_host(client: Client, *hosts: str, version: str = "1.1", more: str = "") -> Reply:
    lines = "".join(f"Host: {host}\r\n" for host in hosts)
    return client.exchange(f"GET /v2/images HTTP/{version}\r\n{lines}{more}\r\n".encode())


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.0.0.1:9292",
        "192.0.2.7:80",
        "[::1]",
        "[::1]:9292",
        "localhost",
        "LOCALHOST:9292",
        "localhost.",
        "images.example:8080",
        "box.example",
        "Box.Example.:1",
    ],
)
def test_own_names(service: Service, host: str) -> None:
    assert with_host(service.client, host).status == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:9292",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "evil.example.localhost.example",
        "xlocalhost",
        "0x7f000001",
        "127.1",
        "2130706433",
        "horizon.example",
    ],
)
def test_names_that_a_page_could_point_here(service: Service, host: str) -> None:
    reply = with_host(service.client, host)
    assert reply.status == 403
    assert b"auth.none.hosts" in reply.body


@pytest.mark.parametrize("host", ["[evil.example]", "a@127.0.0.1"])
def test_names_that_are_no_names(service: Service, host: str) -> None:
    assert with_host(service.client, host).status == 400


def test_two_names(service: Service) -> None:
    for hosts in (("127.0.0.1", "evil.example"), ("evil.example", "127.0.0.1")):
        assert with_host(service.client, *hosts).status in (400, 403)


def test_no_name(service: Service) -> None:
    """Only browsers can be led astray, and they always send one."""
    assert with_host(service.client, version="1.0").status == 200


def test_what_a_page_claims_to_be_forwarded_does_not_help(tmp_path: Path) -> None:
    with running(tmp_path, {"server": {"trusted_proxies": ["127.0.0.1"]}}) as service:
        forwarded = "X-Forwarded-Host: {}\r\nX-Forwarded-Proto: http\r\n"
        for host, told in (("evil.example", "localhost"), ("localhost", "evil.example")):
            assert with_host(service.client, host, more=forwarded.format(told)).status == 403
        assert with_host(service.client, "localhost", more=forwarded.format("[[")).status == 403
        assert with_host(service.client, "127.0.0.1", more=forwarded.format("[::1]")).status == 200


def test_any_name(tmp_path: Path) -> None:
    with running(tmp_path, {"auth": {"none": {"hosts": ["*"]}}}) as service:
        assert with_host(service.client, "evil.example").status == 200


# -- pages of other sites -------------------------------------------------------------------------


def changes(client: Client, headers: Mapping[str, str]) -> set[int]:
    """Try what a page can do without asking the browser's leave first, and more."""
    return {
        client.request("POST", "/v2/images", b'{"name": "x"}', {**PLAIN, **headers}).status,
        client.request("DELETE", f"/v2/images/{'0' * 8}", headers=headers).status,
        client.request("PUT", "/v2/images/x/file", b"data", {**PLAIN, **headers}).status,
        client.request("PATCH", "/v2/images/x", b"[]", {**PLAIN, **headers}).status,
        client.request("POST", "/v2/images/x/actions/deactivate", headers=headers).status,
    }


FOREIGN: list[dict[str, str]] = [
    {"Origin": EVIL},
    {"Origin": "null"},
    {"Origin": ""},
    {"Origin": "http://127.0.0.1:1"},
    {"Origin": "http://localhost"},
    {"Origin": "http://horizon.example"},
    {"Origin": "https://horizon.example.evil.example"},
    {"Origin": EVIL, "Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "whatever"},
]
OWN: list[dict[str, str]] = [
    {},
    {"Origin": "https://horizon.example"},
    {"Origin": "HTTPS://HORIZON.example", "Sec-Fetch-Site": "cross-site"},
    {"Origin": "http://images.example:8080"},
    {"Origin": "http://elsewhere.example", "Sec-Fetch-Site": "same-origin"},
    {"Sec-Fetch-Site": "none"},
]


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
def test_foreign_pages_change_nothing(service: Service, headers: dict[str, str]) -> None:
    before = service.everything()
    assert changes(service.client, headers) == {403}
    assert service.everything() == before
    assert service.client.request("GET", "/v2/images", headers=headers).status == 200


@pytest.mark.parametrize("headers", OWN, ids=str)
def test_own_pages_and_programs_may(service: Service, headers: dict[str, str]) -> None:
    reply = service.client.request("POST", "/v2/images", b"{}", {**PLAIN, **headers})
    assert reply.status == 201
    image = f"/v2/images/{reply.json()['id']}"
    assert service.client.request("DELETE", image, headers=headers).status == 204


def test_own_origin(service: Service) -> None:
    headers = {"Origin": service.client.url, **PLAIN}
    assert service.client.request("POST", "/v2/images", b"{}", headers).status == 201


def test_all_origins(tmp_path: Path) -> None:
    with running(tmp_path, {"cors": {"allowed_origins": ["*"]}}) as service:
        headers = {"Origin": EVIL, **PLAIN}
        assert service.client.request("POST", "/v2/images", b"{}", headers).status == 201


def test_remembered_passwords(tmp_path: Path) -> None:
    """A browser adds them to what any page sends."""
    htpasswd = tmp_path / "htpasswd"
    write_htpasswd(htpasswd, "alice")
    auth: Any = {"mode": "basic", "basic": {"file": str(htpasswd)}}
    with running(tmp_path, {"auth": auth}) as service:
        assert changes(service.client, {**basic("alice"), "Origin": EVIL}) == {403}
        image_id = service.client.post("/v2/images", {}, **basic("alice")).json()["id"]
        assert image_id


def test_a_proxy_that_remembers_its_users(tmp_path: Path) -> None:
    headers = identity("apollo", "member,reader")
    auth = {"mode": "trusted_headers", "trusted_headers": {"hosts": ["api.example"]}}
    with running(tmp_path, {"auth": auth}) as service:
        assert changes(service.client, {**headers, "Origin": EVIL}) == {403}
        assert service.client.post("/v2/images", {}, **headers).status == 201
        more = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        assert with_host(service.client, "api.example", more=more).status == 200
        refused = with_host(service.client, "evil.example", more=more)
        assert refused.status == 403 and b"auth.trusted_headers.hosts" in refused.body
