"""Who may come in with which token of a real Keystone."""

import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

from tests.keystone import PASSWORD, Keystone, started
from tests.real.client import Client, Reply
from tests.real.roles import identity
from tests.real.service import Service, running, wait_until

CACHE_TIME = 1.0
ELSEWHERE = "https://identity.example/v3"
SHORT = 4
"""Seconds for which the tokens of the fixture `hasty` are good."""


@pytest.fixture(scope="module")
def service(keystone: Keystone, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    options = {"auth": keystone.auth(cache_time=CACHE_TIME), "logging": {"level": "debug"}}
    with running(tmp_path_factory.mktemp("service"), options) as started:
        yield started


@pytest.fixture(scope="module")
def forgetful(keystone: Keystone, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Return a service that remembers no token, and sends clients elsewhere for one."""
    auth = keystone.auth(cache_time=0, www_authenticate_uri=ELSEWHERE)
    with running(tmp_path_factory.mktemp("forgetful"), {"auth": auth}) as started:
        yield started


@pytest.fixture(scope="module")
def hasty(keystone: Keystone, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keystone]:
    """Return another Keystone with the same keys, whose tokens are soon over."""
    with started(tmp_path_factory.mktemp("hasty"), expiration=SHORT) as other:
        yield other


def holding(service: Service, token: str, **headers: str) -> Client:
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    return attrs.evolve(service.client, headers={"X-Auth-Token": token, **fields})


def soon_over(hasty: Keystone, service: Service) -> tuple[str, float]:
    """Return a token of `hasty` that is still good, and when it had been issued."""
    for _ in range(20):
        token, issued = hasty.token("demo", "demo"), time.monotonic()
        if listed(holding(service, token)) == 200:
            return token, issued
    pytest.fail("each was over before it could be used")


def listed(client: Client) -> int:
    return client.get("/v2/images").status


# -- who is who -----------------------------------------------------------------------------------


def test_member_owns_what_he_creates(keystone: Keystone, service: Service) -> None:
    demo = keystone.client(service, "demo")
    image = demo.show(demo.active(b"data"))
    assert image["owner"] == keystone.projects["demo"]
    assert image["status"] == "active"
    demo.delete(f"/v2/images/{image['id']}")


def test_roles_and_projects_count(keystone: Keystone, service: Service) -> None:
    clients = {
        "demo": keystone.client(service, "demo"),
        "reader": keystone.client(service, "reader", "demo"),
        "alt": keystone.client(service, "alt"),
        "admin": keystone.client(service, "admin"),
    }
    path = f"/v2/images/{clients['demo'].create()}"
    shown = {name: client.get(path).status for name, client in clients.items()}
    assert shown == {"demo": 200, "reader": 200, "alt": 404, "admin": 200}
    tagged = {
        name: client.request("PUT", f"{path}/tags/x").status for name, client in clients.items()
    }
    assert tagged == {"demo": 204, "reader": 403, "alt": 404, "admin": 204}
    deleted = {name: clients[name].delete(path).status for name in ("reader", "alt", "admin")}
    assert deleted == {"reader": 403, "alt": 404, "admin": 204}


def test_scopes(keystone: Keystone, service: Service) -> None:
    """Rules are of projects: a token of something else sees nothing, as with Glance."""
    role = keystone.roles["admin"]
    keystone.call("PUT", f"/domains/default/users/{keystone.users['admin']}/roles/{role}")
    path = f"/v2/images/{keystone.client(service, 'demo').create()}"
    tokens = {
        "system": keystone.token("admin", system=True),
        "domain": keystone.token("admin", domain="default"),
        "unscoped": keystone.token("demo"),
    }
    for scope, token in tokens.items():
        client = holding(service, token)
        assert (scope, client.get(path).status) == (scope, 404)
        assert (scope, client.request("PUT", f"{path}/tags/x").status) == (scope, 404)
        assert (scope, client.post("/v2/images", {"name": "x"}).status) == (scope, 403)
    keystone.client(service, "demo").delete(path)


def test_nobody_is_told_where_to_go(keystone: Keystone, service: Service) -> None:
    reply = service.client.get("/v2/images")
    assert reply.status == 401
    assert reply.headers["www-authenticate"] == f'Keystone uri="{keystone.url}"'


def test_where_to_go_is_configurable(forgetful: Service) -> None:
    reply = holding(forgetful, "garbage").get("/v2/images")
    assert reply.headers["www-authenticate"] == f'Keystone uri="{ELSEWHERE}"'


def test_what_needs_no_token(service: Service) -> None:
    assert service.client.get("/versions").status == 200
    assert service.client.get("/healthcheck").status == 200


def test_headers_of_a_proxy_are_not_believed(keystone: Keystone, service: Service) -> None:
    """A client that sends them itself must not become another user by them."""
    forged = {
        **identity("theirs", "admin"),
        "OpenStack-System-Scope": "all",
        "X-Service-Identity-Status": "Confirmed",
        "X-Service-Roles": "service",
        "X-Is-Admin-Project": "True",
    }
    assert service.client.request("GET", "/v2/images", headers=forged).status == 401
    client = attrs.evolve(
        service.client, headers={**forged, "X-Auth-Token": keystone.token("reader", "demo")}
    )
    assert client.post("/v2/images", {"name": "x"}).status == 403


# -- tokens that are none -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "token",
    [
        "garbage",
        "",
        " ",
        "a b",
        "../../v3/users",
        "%00",
        '"',
        "null",
        "gAAAAA" * 30,
        "x" * 4096,
        "x" * 4097,
        "x" * 12000,
        "\xe9",
        "\x7f",
        "Bearer garbage",
    ],
)
def test_garbage(service: Service, token: str) -> None:
    assert listed(holding(service, token)) == 401


def test_a_changed_token_is_none(keystone: Keystone, service: Service) -> None:
    token = keystone.token("demo", "demo")
    changed = token[:60] + ("A" if token[60] != "A" else "B") + token[61:]
    assert listed(holding(service, token)) == 200
    assert listed(holding(service, changed)) == 401
    assert listed(holding(service, token + "A")) == 401
    assert listed(holding(service, token[:-1])) == 401
    assert listed(holding(service, f" {token} ")) == 200


def test_the_older_header(keystone: Keystone, service: Service) -> None:
    token = keystone.token("demo", "demo")

    def status(**headers: str) -> int:
        return service.client.get("/v2/images", **headers).status

    assert status(X_Storage_Token=token) == 200
    assert status(X_Storage_Token="garbage") == 401
    assert status(X_Auth_Token=token, X_Storage_Token="garbage") == 200
    assert status(X_Auth_Token="garbage", X_Storage_Token=token) == 401
    assert status(X_Auth_Token="", X_Storage_Token=token) == 401


def test_of_two_tokens_none_is_meant(keystone: Keystone, service: Service) -> None:
    token = keystone.token("demo", "demo")
    for other in (token, "garbage"):
        head = f"GET /v2/images HTTP/1.1\r\nHost: here\r\nX-Auth-Token: {other}\r\n"
        reply = service.client.exchange(f"{head}X-Auth-Token: {token}\r\n\r\n".encode())
        assert reply.status == 401


# -- tokens that are no longer good ---------------------------------------------------------------


def test_revoked_token_works_for_the_cache_time_at_most(
    keystone: Keystone, service: Service
) -> None:
    client = keystone.client(service)
    assert listed(client) == 200
    keystone.revoke(client.headers["X-Auth-Token"])
    time.sleep(CACHE_TIME)
    assert listed(client) == 401


def test_disabled_user(keystone: Keystone, service: Service) -> None:
    user = {"name": f"leaving {time.time_ns()}", "domain_id": "default", "password": PASSWORD}
    made = keystone.call("POST", "/users", {"user": user})["user"]
    project, role = keystone.projects["demo"], keystone.roles["member"]
    keystone.call("PUT", f"/projects/{project}/users/{made['id']}/roles/{role}")
    client = holding(service, keystone.token(made["name"], "demo"))
    assert listed(client) == 200
    keystone.call("PATCH", f"/users/{made['id']}", {"user": {"enabled": False}})
    time.sleep(CACHE_TIME)
    assert listed(client) == 401


def test_without_memory_every_request_asks(keystone: Keystone, forgetful: Service) -> None:
    client = keystone.client(forgetful)
    assert listed(client) == 200
    keystone.revoke(client.headers["X-Auth-Token"])
    assert listed(client) == 401


def test_own_token_is_renewed(keystone: Keystone, hasty: Keystone, tmp_path: Path) -> None:
    """Ours is good for a few seconds, and nobody notices."""
    with running(tmp_path, {"auth": hasty.auth(cache_time=0)}) as service:
        client = keystone.client(service)
        end = time.monotonic() + SHORT
        while time.monotonic() < end:
            assert listed(client) == 200
            time.sleep(0.1)


def test_expired_token(keystone: Keystone, hasty: Keystone, tmp_path: Path) -> None:
    """It ends when it ends, however long answers are believed; a service may go on with it."""
    with running(tmp_path, {"auth": keystone.auth()}) as service:
        token, issued = soon_over(hasty, service)
        time.sleep(max(0.0, SHORT + 0.1 - (time.monotonic() - issued)))
        assert listed(holding(service, token)) == 401
        known = keystone.token("service-only", "service")
        assert listed(holding(service, token, X_Service_Token=known)) == 200
        assert listed(holding(service, token)) == 401
        other = keystone.token("demo", "demo")
        assert listed(holding(service, token, X_Service_Token=other)) == 401
        assert listed(holding(service, "garbage", X_Service_Token=known)) == 401
        expired = holding(service, keystone.token("demo", "demo"), X_Service_Token=token)
        assert listed(expired) == 200  # as if it were not there


# -- services that ask for a user -----------------------------------------------------------------


def test_service_token(keystone: Keystone, service: Service) -> None:
    user, known = keystone.token("demo", "demo"), keystone.token("service-only", "service")
    client = holding(service, user, X_Service_Token=known)
    image = client.show(client.create())
    assert image["owner"] == keystone.projects["demo"]
    client.delete(f"/v2/images/{image['id']}")


def test_service_token_that_is_none(keystone: Keystone, service: Service) -> None:
    """It grants nothing, and takes nothing that the user's own token allows, as in Glance."""
    user = keystone.token("demo", "demo")
    for token in ("garbage", "", "x" * 9000):
        assert listed(holding(service, user, X_Service_Token=token)) == 200
        reply = holding(service, "made-up", X_Service_Token=token).get("/v2/images")
        assert reply.status == 401
        assert reply.headers["www-authenticate"] == f'Keystone uri="{keystone.url}"'


def test_service_token_alone_is_nobody(keystone: Keystone, service: Service) -> None:
    known = keystone.token("service-only", "service")
    assert service.client.get("/v2/images", X_Service_Token=known).status == 401


def test_token_without_the_role_makes_no_service(keystone: Keystone, service: Service) -> None:
    """The user's own token still counts, as with Glance; what a service may, is not allowed."""
    user, other = keystone.token("demo", "demo"), keystone.token("alt", "alt")
    assert listed(holding(service, user, X_Service_Token=other)) == 200


# -- application credentials ----------------------------------------------------------------------


def test_application_credential(keystone: Keystone, service: Service) -> None:
    client = holding(service, keystone.token_of(keystone.application_credential()))
    image = client.show(client.create())
    assert image["owner"] == keystone.projects["demo"]
    client.delete(f"/v2/images/{image['id']}")


def test_application_credential_with_fewer_roles(keystone: Keystone, service: Service) -> None:
    credential = keystone.application_credential(roles=[{"name": "reader"}])
    client = holding(service, keystone.token_of(credential))
    assert listed(client) == 200
    assert client.post("/v2/images", {"name": "x"}).status == 403


def test_access_rules(keystone: Keystone, service: Service) -> None:
    rules: list[dict[str, str]] = [
        {"service": "image", "method": "GET", "path": "/v2/images/{image_id}"},
        {"service": "image", "method": "GET", "path": "/v2/schemas/**"},
        {"service": "compute", "method": "GET", "path": "/v2/images"},
    ]
    token = keystone.token_of(keystone.application_credential(access_rules=rules))
    demo, restricted = keystone.client(service, "demo"), holding(service, token)
    image_id = demo.active(b"data")
    expected = {
        f"/v2/images/{image_id}": 200,
        "/v2/schemas/image": 200,
        "/v2/images": 401,
        f"/v2/images/{image_id}/file": 401,
        f"/v2/images/{image_id}%2Ffile": 401,
        f"/v2/images/{image_id}/members": 401,
        f"/v2//images/{image_id}": 401,
        f"/v2/images/{image_id}?x=/v2/images": 200,
    }
    assert {path: restricted.get(path).status for path in expected} == expected
    assert restricted.delete(f"/v2/images/{image_id}").status == 401
    assert restricted.post("/v2/images", {"name": "x"}).status == 401
    short = {"Accept": "application/vnd.openstack.images-v2.9"}
    assert restricted.request("GET", "/images", headers=short).status == 401
    # A request of a service for the user is not the user's own.
    for user, project, status in (("service-only", "service", 200), ("alt", "alt", 401)):
        known = keystone.token(user, project)
        assert listed(holding(service, token, X_Service_Token=known)) == status
    demo.delete(f"/v2/images/{image_id}")


# -- anonymous ------------------------------------------------------------------------------------


def test_anonymous_read(keystone: Keystone, tmp_path: Path) -> None:
    auth = {**keystone.auth(), "anonymous_read": True}
    with running(tmp_path, {"auth": auth}) as service:
        admin = keystone.client(service, "admin")
        public, private = admin.create(visibility="public"), admin.create(visibility="private")
        for token in ({}, {"X-Auth-Token": "garbage"}):
            nobody = attrs.evolve(service.client, headers=token)
            assert [one["id"] for one in nobody.get("/v2/images").json()["images"]] == [public]
            assert nobody.get(f"/v2/images/{private}").status == 404
            assert nobody.post("/v2/images", {"name": "x"}).status in (401, 403)
            assert nobody.delete(f"/v2/images/{public}").status in (401, 403)


# -- what outlives a token ------------------------------------------------------------------------


def test_cve_2015_5286_token_that_ends_during_an_upload(
    keystone: Keystone, hasty: Keystone, forgetful: Service
) -> None:
    """What was uploaded belongs to an image with an owner, and is counted, whatever became of the
    token meanwhile: nothing of the end of an upload needs one."""
    image_id = keystone.client(forgetful, "demo").create()
    token, issued = soon_over(hasty, forgetful)
    client = holding(forgetful, token)

    def slowly() -> Iterator[bytes]:
        yield b"first"
        time.sleep(max(0.0, SHORT + 0.2 - (time.monotonic() - issued)))
        yield b"last"

    assert client.upload(image_id, slowly()).status == 204
    assert listed(client) == 401
    shown = keystone.client(forgetful, "demo").show(image_id)
    assert (shown["status"], shown["size"]) == ("active", 9)
    assert shown["owner"] == keystone.projects["demo"]


def test_cve_2014_9623_image_that_goes_during_an_upload(
    keystone: Keystone, service: Service
) -> None:
    """Its data goes, too: none is left that nobody's quota counts."""
    client = keystone.client(service, "demo")
    image_id, deleted = client.create(), threading.Event()

    def data() -> Iterator[bytes]:
        yield b"first" * 1000
        assert deleted.wait(120)
        yield b"last" * 1000

    replies: list[Reply] = []
    upload = threading.Thread(target=lambda: replies.append(client.upload(image_id, data())))
    upload.start()
    wait_until(lambda: client.show(image_id)["status"] == "saving")
    assert client.delete(f"/v2/images/{image_id}").status == 204
    deleted.set()
    upload.join()
    assert replies[0].status in (404, 410)
    wait_until(service.is_at_rest)
    assert image_id not in service.files()


# -- nothing is told ------------------------------------------------------------------------------


def test_no_secret_in_the_log(keystone: Keystone, service: Service) -> None:
    """Of all that the tests of this module sent, at the level debug."""
    token = keystone.token("demo", "demo")
    for client in (holding(service, token), holding(service, "garbage-token")):
        client.get("/v2/images")
        client.get("/v2/images?token=x", X_Service_Token="garbage-service-token")
    wait_until(lambda: service.log.read_text().count("GET /v2/images") >= 4)
    log = service.log.read_text() + service.said.read_text()
    for secret in (PASSWORD, token, "gAAAAA", "garbage-token", "garbage-service-token"):
        assert secret not in log
    assert not re.search(r"\b[0-9a-f]{64}\b", log)
