"""What went wrong in image services before, advisory by advisory: none of it may happen here.

Each test is the attack itself, against a running service, and named after the advisory. What the
parts behind it do in detail is tested where they are.
"""

import hashlib
import json
import random
import ssl
import struct
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import pytest
import yaml

from tests.origin import Origin, Page, origin
from tests.process.certificates import write_certificate
from tests.real.client import Client, Reply, receive
from tests.real.commands import run_command
from tests.real.roles import (
    OLDER_PATCH,
    PATCH,
    Callers,
    add,
    callers,
    decide,
    members,
    patch,
    remove,
    replace,
)
from tests.real.service import IMGSERVICE, TWISTD, wait_until
from tests.real.streams import upload_head
from tests.security.services import CAP, SECRET, Attacked, another_node, attacked, options, tripwire

DATA = random.Random(4).randbytes(70_001)
SHA512 = hashlib.sha512(DATA).hexdigest()
ROOM = 8 << 20
"""Most bytes of a project, where that is limited."""
PASSWD = Path("/etc/passwd")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Attacked]:
    """One in which all that is dangerous is on."""
    with attacked(tmp_path_factory.mktemp("attacked")) as service:
        yield service


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Attacked]:
    """A service with default options, except for authentication and a store on the web."""
    more: dict[str, Any] = {"locations": {}, "import": {"filter": {"allowed_ports": []}}}
    with attacked(tmp_path_factory.mktemp("plain"), **more) as service:
        yield service


@pytest.fixture
def roles(service: Attacked) -> Callers:
    return callers(service)


@pytest.fixture(scope="module")
def web() -> Iterator[Origin]:
    with origin() as server:
        server.put("/disk.raw", DATA)
        yield server


def add_location(client: Client, image_id: str, url: str, **validation_data: str) -> Reply:
    document: dict[str, Any] = {"url": url}
    if validation_data:
        document["validation_data"] = validation_data
    return client.post(f"/v2/images/{image_id}/locations", document)


def location(url: str, **metadata: Any) -> dict[str, Any]:
    return {"url": url, "metadata": metadata}


def of_service(service: Attacked) -> Client:
    return service.caller("ours", "service,member,reader")


def action(client: Client, image_id: str, name: str) -> Reply:
    return client.request("POST", f"/v2/images/{image_id}/actions/{name}")


# -- deletion -------------------------------------------------------------------------------------


@pytest.mark.parametrize("visibility", ["private", "shared", "community", "public"])
def test_cve_2012_4573_delete_is_authorised_before_any_side_effect(
    service: Attacked, roles: Callers, visibility: str
) -> None:
    """The data went before it was looked at whose it is; CVE-2012-5482 was the same in v2."""
    image_id = roles.admin.active(DATA, owner="ours", visibility=visibility)
    visible = visibility in ("community", "public")
    if visibility == "shared":
        assert roles.owner.post(members(image_id), {"member": "friends"}).status == 200
        assert decide(service.caller("friends"), image_id, "friends", "accepted").status == 200
        assert service.caller("friends").delete(f"/v2/images/{image_id}").status == 403
    for client, status in (
        (roles.other, 403 if visible else 404),
        (roles.reader, 403),
        (service.caller("theirs", "service,reader"), 403 if visible else 404),
        (service.caller("theirs", "member,manager,reader,owner"), 403 if visible else 404),
        (service.caller("ours", ""), 404),
        (service.client, 401),
    ):
        reply = client.delete(f"/v2/images/{image_id}")
        assert (reply.status, service.file(image_id)) == (status, DATA), client.headers
    assert roles.owner.download(image_id).body == DATA
    assert roles.owner.delete(f"/v2/images/{image_id}").status == 204
    assert service.file(image_id) is None


def test_cve_2012_4573_a_protected_image_keeps_its_data(service: Attacked, roles: Callers) -> None:
    image_id = roles.owner.active(DATA, protected=True)
    for client in (roles.owner, roles.admin):
        assert client.delete(f"/v2/images/{image_id}").status == 403
    assert roles.owner.download(image_id).body == DATA


@pytest.mark.parametrize("declared", [True, False], ids=["length", "chunked"])
def test_cve_2014_9623_deleting_during_the_upload_frees_the_quota_and_the_disk(
    tmp_path: Path, declared: bool
) -> None:
    """Deleted while its data came in, an image was charged to nobody; its data stayed for ever."""
    limits = {"image_size": ROOM, "projects": {"default": {"image_size_total": ROOM}}}
    with attacked(tmp_path, limits=limits) as service:
        client = service.caller("ours")
        for _ in range(3):
            image_id = client.create()
            answer = deleted_on_the_way(service, client, image_id, declared)
            assert answer.status == 410, answer
            wait_until(lambda: not service.files())
        assert usage(client) == 0
        whole = client.create()
        assert client.upload(whole, bytes(ROOM)).status == 204
        assert usage(client) == ROOM >> 20
        assert client.upload(client.create(), b"1").status == 413
        assert set(service.files()) == {whole}


def deleted_on_the_way(service: Attacked, client: Client, image_id: str, declared: bool) -> Reply:
    """Upload half of what there is room for, delete the image, and go on; the end never comes."""
    half, quarter = bytes(ROOM // 2), bytes(ROOM // 4)
    framing = f"Content-Length: {ROOM}" if declared else "Transfer-Encoding: chunked"
    identity = [f"{name}: {value}" for name, value in client.headers.items()]
    with client.connect() as connection:
        connection.sendall(upload_head(image_id, framing, *identity))
        connection.sendall(half if declared else chunk(half))
        wait_until(lambda: client.show(image_id)["status"] == "saving")
        wait_until(lambda: any(image_id in name for name in service.files()))
        assert client.delete(f"/v2/images/{image_id}").status == 204
        connection.sendall(quarter if declared else chunk(quarter))
        return receive(connection)


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def usage(client: Client) -> int:
    """Return how much the project has, in MiB."""
    used = client.get("/v2/info/usage").json()["usage"]
    return int(used["image_size_total"]["usage"])


def test_cve_2015_5286_what_outlives_its_image_is_removed(tmp_path: Path) -> None:
    """The store had all of it, but the image could no more be recorded: the data stayed.

    Another node deletes the image, so that the one that takes the data knows nothing of it.
    """
    with attacked(tmp_path) as service, another_node(service, tmp_path / "other") as other:
        client = service.caller("ours")
        image_id = client.create()
        with client.connect() as connection:
            identity = [f"{name}: {value}" for name, value in client.headers.items()]
            connection.sendall(upload_head(image_id, "Content-Length: 100", *identity))
            connection.sendall(bytes(99))
            wait_until(lambda: client.show(image_id)["status"] == "saving")
            assert other.caller("ours").delete(f"/v2/images/{image_id}").status == 204
            connection.sendall(bytes(1))
            assert receive(connection).status == 410
        assert service.has_nothing_of(image_id)


def test_cve_2014_9684_an_upload_that_breaks_off_leaves_no_data(
    service: Attacked, roles: Callers
) -> None:
    """Started and broken off, again and again, they filled the disk."""
    image_id = roles.owner.create()
    identity = [f"{name}: {value}" for name, value in roles.owner.headers.items()]
    for _ in range(5):
        with roles.owner.connect() as connection:
            connection.sendall(upload_head(image_id, f"Content-Length: {CAP}", *identity))
            connection.sendall(bytes(CAP // 2))
            wait_until(lambda: roles.owner.show(image_id)["status"] == "saving")
        wait_until(lambda: roles.owner.show(image_id)["status"] == "queued")
        assert service.has_nothing_of(image_id)


def test_cve_2016_4383_the_id_of_a_deleted_image_is_never_used_again(
    service: Attacked, roles: Callers
) -> None:
    """A user who took the id of a purged image had their own image booted in its place."""
    for data in (DATA, None):
        image_id = str(uuid.uuid4())
        roles.owner.create(id=image_id, visibility="community")
        if data is not None:
            assert roles.owner.upload(image_id, data).status == 204
        assert roles.owner.delete(f"/v2/images/{image_id}").status == 204
        for client in (roles.other, roles.owner, roles.admin):
            for fields in ({}, {"owner": client.headers["X-Project-Id"]}):
                reply = client.post("/v2/images", {"id": image_id, **fields})
                assert reply.status == 409, reply
        assert roles.owner.get(f"/v2/images/{image_id}").status == 404
        assert service.rows("SELECT status FROM images WHERE id = ?", image_id) == [("deleted",)]


# -- secrets --------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["post", "patch"])
def test_cve_2013_0212_no_error_repeats_the_url_of_a_location(
    service: Attacked, roles: Callers, web: Origin, verb: str
) -> None:
    """The error of a store that could not be reached had its password."""
    url = f"http://user:{SECRET}@127.0.0.1:{web.port}"
    for client in (roles.owner, roles.admin):
        for bad in (f"{url}/absent", f"http://user:{SECRET}@[::1]:{web.port}/x", f"{url}:9/x"):
            image_id = client.create()
            reply = (
                add_location(client, image_id, bad)
                if verb == "post"
                else patch(client, image_id, add("locations/0", location(bad)))
            )
            assert reply.status == 400, reply
            assert SECRET.encode() not in reply.body
            assert all(SECRET not in value for value in reply.headers.values())


def test_cve_2013_0212_no_error_tells_where_a_store_keeps_its_data(tmp_path: Path) -> None:
    with attacked(tmp_path) as service:
        client = service.caller("ours")
        active, queued = client.active(DATA), client.create()
        service.store.rename(tmp_path / "away")
        service.store.write_text("no directory")
        replies = [client.upload(queued, DATA), client.download(active)]
        assert replies[0].status == 503
        for reply in replies:
            assert str(tmp_path).encode() not in reply.body
        service.store.unlink()
        (tmp_path / "away").rename(service.store)


@pytest.mark.parametrize("way", ["show", "list", "patch", "locations"])
def test_cve_2013_1840_locations_are_shown_without_credentials(
    service: Attacked, roles: Callers, web: Origin, way: str
) -> None:
    url = f"http://user:{SECRET}@127.0.0.1:{web.port}/disk.raw"
    image_id = roles.admin.create(owner="ours", visibility="public")
    assert add_location(roles.admin, image_id, url).status == 202
    wait_until(lambda: roles.owner.show(image_id)["status"] == "active")
    for client in (roles.owner, roles.reader, roles.other, of_service(service)):
        reply = {
            "show": lambda client: client.get(f"/v2/images/{image_id}"),
            "list": lambda client: client.get(f"/v2/images?id={image_id}"),
            "patch": lambda client: patch(client, image_id, add("a", "b")),
            "locations": lambda client: client.get(f"/v2/images/{image_id}/locations"),
        }[way](client)
        assert SECRET.encode() not in reply.body
        if reply.status == 200:
            assert f"http://127.0.0.1:{web.port}/disk.raw".encode() in reply.body
    assert SECRET in roles.admin.show(image_id)["direct_url"], "or there was nothing to hide"


def test_cve_2014_1948_credentials_of_requests_are_in_no_log(service: Attacked) -> None:
    """That the log of this whole module has none of the secrets is seen at its end."""
    for name in ("Authorization", "X-Auth-Token", "X-Service-Token", "X-Subject-Token", "Cookie"):
        client = attrs.evolve(service.caller("ours"), headers={name: f"Bearer {SECRET}"})
        assert client.get("/v2/images").status == 401
        with_identity = service.caller("ours").headers
        client = attrs.evolve(client, headers={**with_identity, name: f"Bearer {SECRET}"})
        assert client.get("/v2/images").status == 200
        assert client.upload(client.create(disk_format="qcow2"), b"none").status == 415
    wait_until(lambda: "/v2/images" in service.log.read_text())
    assert SECRET not in service.log.read_text()


DATABASE = f"postgresql+psycopg://imgservice:{SECRET}@127.0.0.1:1/images"


@pytest.mark.parametrize("name", ["check", "start"])
def test_cve_2014_1948_the_password_of_the_database_is_told_to_nobody(
    tmp_path: Path, name: str
) -> None:
    file = tmp_path / "c.yaml"
    server = {"listen": ["tcp:0:interface=127.0.0.1"]}
    document = {**options(tmp_path), "server": server, "database": {"url": DATABASE}}
    file.write_text(yaml.safe_dump(document))
    started: list[str | Path] = [TWISTD, "--nodaemon", "--pidfile=", "imgservice", "--config", file]
    checked: list[str | Path] = [IMGSERVICE, "check", "--config", file]
    command = checked if name == "check" else started
    done = run_command(*command, cwd=tmp_path)
    assert done.returncode == 1
    assert "database.url" in done.stderr
    assert SECRET not in done.stdout + done.stderr


OURSELVES: Mapping[str, Mapping[str, str]] = {
    "password": {"username": "imgservice", "password": SECRET},
    "application credential": {
        "application_credential_id": "an-id",
        "application_credential_secret": SECRET,
    },
}


@pytest.mark.parametrize("kind", OURSELVES)
@pytest.mark.parametrize("answers", [True, False])
def test_cve_2014_1948_so_is_that_for_keystone(
    tmp_path: Path, web: Origin, kind: str, answers: bool
) -> None:
    """Also when Keystone answers nonsense, or not at all."""
    url = web.url("/v3") if answers else "http://127.0.0.1:1/v3"
    auth = {"mode": "keystone", "keystone": {"url": url, "timeout": 2, **OURSELVES[kind]}}
    with attacked(tmp_path, auth=auth) as service:
        client = attrs.evolve(service.client, headers={"X-Auth-Token": f"token-{SECRET}"})
        for _ in range(2):
            reply = client.get("/v2/images")
            assert reply.status == 503
            assert SECRET.encode() not in reply.body
    shown = run_command(IMGSERVICE, "check", "--config", service.config)
    assert "mode: keystone" in shown.stdout
    assert SECRET not in shown.stdout + shown.stderr


def test_cve_2024_1141_options_are_printed_without_their_secrets(tmp_path: Path) -> None:
    """At debug level, a store wrote its whole configuration to the log."""
    file, secret = tmp_path / "c.yaml", tmp_path / "secret"
    secret.write_text(DATABASE)
    for url in (DATABASE, {"file": str(secret)}):
        file.write_text(yaml.safe_dump({**options(tmp_path), "database": {"url": url}}))
        done = run_command(IMGSERVICE, "check", "--config", file)
        assert "database:\n  url: " in done.stdout
        assert SECRET not in done.stdout + done.stderr


# -- who may read ---------------------------------------------------------------------------------


def test_cve_2013_4428_a_download_is_authorised_in_every_form(
    service: Attacked, roles: Callers
) -> None:
    """What had been downloaded before was handed out without asking the policy."""
    image_id = roles.owner.active(DATA, visibility="private")
    path = f"/v2/images/{image_id}/file"
    whole = roles.owner.get(path)
    assert whole.body == DATA
    known = whole.headers["etag"]
    forms: list[Mapping[str, str]] = [
        {},
        {"Range": "bytes=0-9"},
        {"Content-Range": "bytes 0-9/*"},
        {"If-None-Match": known},
        {"If-Match": known},
        {"If-Range": known, "Range": "bytes=0-9"},
    ]
    roleless = service.caller("ours", "")
    for form in forms:
        for client, status in ((roles.other, 404), (roles.reader, 403), (roleless, 404)):
            reply = client.request("GET", path, headers=form)
            assert reply.status == status, (form, client.headers)
            assert "etag" not in reply.headers
        assert service.client.request("GET", path, headers=form).status == 401
    assert roles.owner.get(path, If_None_Match=known).status == 304


def test_cve_2013_4428_a_deactivated_image_is_for_administrators_only(roles: Callers) -> None:
    image_id = roles.admin.active(DATA, owner="ours", visibility="public")
    path = f"/v2/images/{image_id}/file"
    known = roles.owner.get(path).headers["etag"]
    assert action(roles.admin, image_id, "deactivate").status == 204
    for client in (roles.owner, roles.other):
        assert client.get(path).status == 403
        assert client.get(path, Range="bytes=0-9").status == 403
        assert client.get(path, If_None_Match=known).status == 403
        assert "direct_url" not in client.show(image_id)
        assert not client.show(image_id)["locations"]
    assert roles.admin.get(path).body == DATA


def test_ossn_0065_clients_neither_see_nor_change_locations_by_default(
    plain: Attacked, web: Origin
) -> None:
    """They replaced the data of an image that others used already."""
    roles = callers(plain)
    image_id = roles.owner.active(DATA)
    new = location(web.url("/disk.raw"))
    for client in (roles.owner, roles.admin):
        shown = client.show(image_id)
        assert not {"locations", "direct_url"} & shown.keys()
        for change in (add("locations/-", new), replace("locations", [new]), remove("locations/0")):
            assert patch(client, image_id, change).status == 403
    assert roles.owner.download(image_id).body == DATA


def test_ossn_0090_where_data_lies_is_for_services_only_and_what_it_is_is_hashed(
    service: Attacked, roles: Callers, web: Origin
) -> None:
    """Without a hash, data could be changed behind the back; CVE-2022-4134."""
    image_id = roles.owner.create()
    assert add_location(roles.owner, image_id, web.url("/disk.raw")).status == 202
    wait_until(lambda: roles.owner.show(image_id)["status"] == "active")
    assert roles.owner.show(image_id)["os_hash_value"] == SHA512
    path = f"/v2/images/{image_id}/locations"
    for client, status in ((roles.owner, 403), (roles.reader, 403), (roles.other, 404)):
        assert client.get(path).status == status
    assert of_service(service).get(path).status == 200
    other = roles.owner.create()
    wrong = {"os_hash_algo": "sha512", "os_hash_value": hashlib.sha512(b"other").hexdigest()}
    assert add_location(roles.owner, other, web.url("/disk.raw"), **wrong).status == 400
    assert service.has_nothing_of(other)


# -- who may write --------------------------------------------------------------------------------

WRITES: Mapping[str, Any] = {
    "field": lambda client, image: patch(client, image, replace("name", "mine now")),
    "owner": lambda client, image: patch(client, image, replace("owner", "theirs")),
    "visibility": lambda client, image: patch(client, image, replace("visibility", "private")),
    "property": lambda client, image: patch(client, image, add("x", "y")),
    "old type": lambda client, image: patch(
        client, image, {"add": "/x", "value": "y"}, type_=OLDER_PATCH
    ),
    "tag": lambda client, image: client.put(f"/v2/images/{image}/tags/x", b""),
    "no tag": lambda client, image: client.delete(f"/v2/images/{image}/tags/blue"),
    "data": lambda client, image: client.upload(image, b"other"),
    "deactivate": lambda client, image: action(client, image, "deactivate"),
    "reactivate": lambda client, image: action(client, image, "reactivate"),
    "member": lambda client, image: client.post(members(image), {"member": "theirs"}),
    "no member": lambda client, image: client.delete(members(image, "friends")),
    "location": lambda client, image: add_location(client, image, "http://192.0.2.1/x"),
    "locations": lambda client, image: patch(
        client, image, replace("locations", [location("http://192.0.2.1/x")])
    ),
}


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("visibility", ["private", "shared", "community", "public"])
def test_only_members_of_the_owner_write(
    service: Attacked, roles: Callers, visibility: str, write: str
) -> None:
    """Of metadata that everybody could write OSSN-0088 tells, and OSSN-0065 of data."""
    image_id = roles.admin.active(DATA, owner="ours", visibility="shared", tags=["blue"])
    for friend in ("friends", "guests"):
        assert roles.owner.post(members(image_id), {"member": friend}).status == 200
    assert decide(service.caller("friends"), image_id, "friends", "accepted").status == 200
    assert patch(roles.admin, image_id, replace("visibility", visibility)).status == 200
    before = service.everything()
    for client in (
        roles.other,
        roles.reader,
        service.caller("friends"),
        service.caller("guests"),
        service.caller("ours", ""),
        service.client,
    ):
        reply = WRITES[write](client, image_id)
        assert reply.status in (401, 403, 404), reply
        assert service.everything() == before, client.headers


STATUSES = ("queued", "saving", "active", "killed", "deleted", "pending_delete", "deactivated",
            "uploading", "importing")  # fmt: skip


@pytest.mark.parametrize("status", STATUSES)
def test_cve_2015_5251_no_client_writes_the_status(roles: Callers, status: str) -> None:
    """A member of the owner set an active image to queued, and uploaded other data."""
    for client in (roles.owner, roles.admin):
        assert client.post("/v2/images", {"status": status}).status == 403
        image_id = client.active(DATA)
        before = client.show(image_id)
        headers = {"x-image-meta-status": status, "x-openstack-image-status": status}
        for change in (add("status", status), replace("status", status), remove("status")):
            assert patch(client, image_id, change).status == 403
        for verb in ("add", "replace", "remove"):
            change = {verb: "/status", "value": status}
            assert patch(client, image_id, change, type_=OLDER_PATCH).status == 403
        for path in (f"/v2/images/{image_id}", f"/v1/images/{image_id}"):
            assert client.request("PUT", path, b"", headers).status in (300, 404, 405)
        body = json.dumps([add("a", "b")]).encode()
        typed = {"Content-Type": PATCH, **headers}
        assert client.request("PATCH", f"/v2/images/{image_id}", body, typed).status == 200
        assert client.upload(image_id, b"other", **headers).status == 409
        after = client.show(image_id)
        assert {**after, "updated_at": None, "a": None} == {**before, "updated_at": None, "a": None}
        assert client.download(image_id).body == DATA


@pytest.mark.parametrize("verb", ["remove", "empty", "older", "other"])
def test_cve_2016_0757_the_last_location_stays(
    service: Attacked, roles: Callers, web: Origin, verb: str
) -> None:
    """Without any, the image was queued again, and took other data under its old name."""
    client = roles.admin
    image_id = client.active(DATA)
    change: Mapping[str, Any] = {
        "remove": remove("locations/0"),
        "empty": replace("locations", []),
        "older": {"remove": "/locations/0"},
        "other": replace("locations", [location(web.url("/disk.raw"))]),
    }
    type_ = OLDER_PATCH if verb == "older" else PATCH
    reply = patch(client, image_id, change[verb], type_=type_)
    assert reply.status in (400, 403), reply
    shown = client.show(image_id)
    assert (shown["status"], len(shown["locations"])) == ("active", 1)
    assert client.upload(image_id, b"other").status == 409
    assert service.file(image_id) == DATA


# -- too much -------------------------------------------------------------------------------------


def test_cve_2014_5356_no_upload_is_longer_than_the_limit(
    service: Attacked, roles: Callers
) -> None:
    image_id = roles.owner.create()
    too_long: Iterator[bytes] = (bytes(64 << 10) for _ in range(CAP // (64 << 10) + 1))
    for data, headers in (
        (bytes(CAP + 1), {}),
        (iter([bytes(CAP), b"1"]), {}),
        (too_long, {}),
        (iter([bytes(CAP), b"1"]), {"x_openstack_image_size": str(CAP)}),
        (b"", {"x_openstack_image_size": str(CAP + 1)}),
    ):
        assert roles.owner.upload(image_id, data, **headers).status in (400, 413)
        wait_until(lambda: service.has_nothing_of(image_id))
    assert roles.owner.upload(image_id, iter([bytes(CAP)])).status == 204


@pytest.mark.parametrize("told", [None, 10], ids=["true", "lie"])
def test_cve_2014_5356_no_data_at_a_location_is_longer_either(
    service: Attacked, roles: Callers, web: Origin, told: int | None
) -> None:
    web.pages["/long"] = Page(bytes(CAP + 1), told=told)
    image_id = roles.owner.create()
    reply = add_location(roles.owner, image_id, web.url("/long"))
    assert reply.status in (400, 413), reply
    assert service.has_nothing_of(image_id)


def test_cve_2016_8611_images_without_number_are_not_created(tmp_path: Path) -> None:
    """Anybody could fill the database with rows of images."""
    limits = {
        "projects": {"default": {"image_count_total": 3}},
        "rate": {"project": {"creates": {"per_second": 0.01, "burst": 6}}},
    }
    with attacked(tmp_path, limits=limits) as service:
        client = service.caller("ours")
        answers = [client.post("/v2/images", {}) for _ in range(10)]
        assert [answer.status for answer in answers] == [201] * 3 + [413] * 3 + [429] * 4
        assert int(answers[-1].headers["retry-after"]) > 0
        assert service.rows("SELECT count(*) FROM images") == [(3,)]


def test_cve_2016_8611_the_rate_of_creation_is_limited_by_default() -> None:
    done = run_command(IMGSERVICE, "sample")
    creates = yaml.safe_load(done.stdout)["limits"]["rate"]["project"]["creates"]
    assert creates["per_second"] > 0
    assert creates["burst"] > 0


def test_properties_and_tags_are_counted_on_every_way(roles: Callers) -> None:
    """Glance counts, on some ways, only what is new."""
    client, four = roles.owner, {f"p{n}": "x" for n in range(4)}
    tags = [f"t{n}" for n in range(4)]
    assert client.post("/v2/images", {**four, "p4": "x"}).status == 413
    assert client.post("/v2/images", {"tags": [*tags, "t4"]}).status == 413
    image_id = client.create(**four, tags=tags)
    for changes in (
        [add("p4", "x")],
        [remove("p0"), add("p4", "x"), add("p5", "x")],
        [replace("p0", "y"), add("p4", "")],
        [replace("tags", [*tags, "t4"])],
        [add("tags", [*tags, "t4"])],
    ):
        assert patch(client, image_id, *changes).status == 413, changes
    assert patch(client, image_id, {"add": "/p4", "value": "x"}, type_=OLDER_PATCH).status == 413
    assert client.put(f"/v2/images/{image_id}/tags/t4", b"").status == 413
    shown = client.show(image_id)
    assert len(shown["tags"]) == sum(name in shown for name in (*four, "p4", "p5")) == 4


# -- places ---------------------------------------------------------------------------------------

FORBIDDEN_PLACES = (
    "file:///etc/passwd",
    "FILE:///etc/passwd",
    "File:/etc/passwd",
    " file:///etc/passwd",
    "file://localhost/etc/passwd",
    "filesystem:///etc/passwd",
    "file://{store}/{image}",
    "swift+config://ref1/container/object",
    "swift+https://user:s3cr3t@127.0.0.1/v1/container/object",
    "s3://key:s3cr3t@127.0.0.1/bucket/object",
    "rbd://pool/image/snap",
    "cinder://volume",
    "vsphere://127.0.0.1/folder/x?dcPath=a&dsName=b",
    "memory://x/y",
    "ftp://127.0.0.1/x",
    "gopher://127.0.0.1:25/x",
    "data:,x",
    "/etc/passwd",
)


@pytest.mark.parametrize("place", FORBIDDEN_PLACES)
def test_cve_2014_9493_files_of_the_server_are_no_locations(
    service: Attacked, roles: Callers, place: str
) -> None:
    """They were read, and deleted with the image; CVE-2015-1195 was another spelling of it."""
    active = roles.owner.active(DATA)
    url = place.format(store=service.store, image=active)
    for client in (roles.owner, roles.admin, of_service(service)):
        image_id = client.create()
        replies = [
            add_location(client, image_id, url),
            patch(client, image_id, add("locations/-", location(url))),
            patch(client, image_id, add("locations/0", location(url, store="local"))),
            patch(client, image_id, replace("locations", [location(url)])),
            patch(client, active, add("locations/-", location(url, store="local"))),
            client.post("/v2/images", {"locations": [location(url)]}),
            client.post("/v2/images", {"location": url}),
            client.post("/v2/images", {"direct_url": url}),
        ]
        assert {reply.status for reply in replies} <= {400, 403, 404}, replies
        assert service.has_nothing_of(image_id)
        assert not any(SECRET.encode() in reply.body for reply in replies)
        assert client.delete(f"/v2/images/{image_id}").status == 204
    assert roles.owner.download(active).body == DATA
    assert PASSWD.exists()


def test_cve_2014_9493_nor_is_data_of_other_images(service: Attacked, roles: Callers) -> None:
    """A user who names the path of a store's object reads, or deletes, data of others."""
    theirs = roles.other.active(DATA, visibility="private")
    [(url,)] = service.rows("SELECT value FROM image_locations WHERE image_id = ?", theirs)
    for client in (roles.owner, roles.admin, of_service(service)):
        image_id = client.create()
        for reply in (
            add_location(client, image_id, url),
            patch(client, image_id, replace("locations", [location(url, store="local")])),
        ):
            assert reply.status in (400, 403)
        assert service.has_nothing_of(image_id)
        assert client.delete(f"/v2/images/{image_id}").status == 204
    assert service.file(theirs) == DATA


def test_cve_2014_0162_no_location_gets_to_a_shell(
    service: Attacked, roles: Callers, web: Origin, tmp_path: Path
) -> None:
    proof = tmp_path / "proof"
    for url in (
        f"sheepdog://127.0.0.1:7000:;touch {proof};",
        f"sheepdog://127.0.0.1:7000:`touch {proof}`",
        f"http://127.0.0.1:{web.port}/disk.raw;touch {proof}",
        f"http://127.0.0.1:{web.port}/$(touch {proof})",
        f"http://127.0.0.1:{web.port}/disk.raw\n;touch {proof}",
    ):
        image_id = roles.owner.create()
        assert add_location(roles.owner, image_id, url).status in (400, 403)
        assert service.has_nothing_of(image_id)
    assert not proof.exists()


OF_THIS_HOST = (
    "127.0.0.1",
    "localhost",
    "LOCALHOST.",
    "127.0.0.1.",
    "127.1",
    "127.000.000.001",
    "0177.0.0.1",
    "0x7f.0.0.1",
    "0x7f000001",
    "2130706433",
    "017700000001",
    "0",
    "0.0.0.0",
    "127.0.0.2",
    "[::1]",
    "[::]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[::127.0.0.1]",
    "[0:0:0:0:0:0:0:1]",
    "example.org@127.0.0.1",
    "\uff11\uff12\uff17.0.0.1",
    "\u2460\u2461\u2466.0.0.1",
)
OF_CLOUDS = ("169.254.169.254", "0xa9fea9fe", "2852039166", "[fd00:ec2::254]", "[fe80::1]",
             "[::ffff:169.254.169.254]", "100.100.100.200")  # fmt: skip


@pytest.mark.parametrize("host", OF_THIS_HOST)
def test_ossn_0078_this_host_is_out_of_reach_in_every_spelling(plain: Attacked, host: str) -> None:
    """A way to look at networks from the inside; CVE-2017-7200 was that in v1.

    CVE-2026-34881 told of spellings of hosts that the filter did not know.
    """
    with tripwire() as wire:
        assert_refused_unasked(plain, f"http://{host}:{wire.port}/x")
        wire.assert_untouched()


@pytest.mark.parametrize("host", OF_CLOUDS)
def test_ossn_0078_so_are_the_metadata_services_of_clouds(plain: Attacked, host: str) -> None:
    assert_refused_unasked(plain, f"http://{host}/latest/meta-data/")


def assert_refused_unasked(service: Attacked, url: str) -> None:
    """Check that no caller succeeds, and that none waits for an answer of that host."""
    for client in (service.caller("ours"), of_service(service), service.caller("ops", "admin")):
        image_id = service.caller("ours").create(owner="ours")
        began = time.monotonic()
        assert add_location(client, image_id, url).status == 400
        assert time.monotonic() - began < 20.0, "a host that is silent is waited for longer"
        assert service.has_nothing_of(image_id)


@pytest.mark.parametrize("way", ["post", "add", "replace"])
def test_lp_2161330_a_location_is_judged_before_anything_is_asked(
    service: Attacked, roles: Callers, way: str
) -> None:
    """The location was looked at from the server itself, before any filter."""
    with tripwire("127.0.0.2") as wire:
        url = f"http://127.0.0.2:{wire.port}/x"
        for client in (roles.owner, roles.admin):
            image_id = client.create()
            reply = {
                "post": lambda c, i: add_location(c, i, url),
                "add": lambda c, i: patch(c, i, add("locations/-", location(url))),
                "replace": lambda c, i: patch(c, i, replace("locations", [location(url)])),
            }[way](client, image_id)
            assert reply.status == 400
            wire.assert_untouched()
            assert service.has_nothing_of(image_id)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("host", ["127.0.0.2", "0x7f000002", "[::ffff:127.0.0.2]", "127.2."])
def test_cve_2026_34881_each_redirect_is_judged_anew(
    service: Attacked, roles: Callers, web: Origin, host: str, status: int
) -> None:
    with tripwire("127.0.0.2") as wire:
        first = web.redirect("/moved", f"http://{host}:{wire.port}/disk.raw", status)
        image_id = roles.owner.create()
        assert add_location(roles.owner, image_id, first).status == 400
        wire.assert_untouched()
        assert service.has_nothing_of(image_id)
        allowed = web.redirect("/within", web.url("/disk.raw"), status)
        assert add_location(roles.owner, image_id, allowed).status == 202


def test_certificates_of_locations_are_verified(
    service: Attacked, roles: Callers, tmp_path: Path
) -> None:
    """Glance's http store takes any certificate unless it is told not to."""
    certificate, key = tmp_path / "certificate", tmp_path / "key"
    write_certificate(certificate, key)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    with origin(tls) as server:
        url = server.put("/disk.raw", DATA)
        image_id = roles.owner.create()
        assert add_location(roles.owner, image_id, url).status == 503
        assert server.asked == []
        assert service.has_nothing_of(image_id)


# -- data -----------------------------------------------------------------------------------------


def qcow2(features: int = 0, backing: bytes = b"", size: int = 1 << 30, l1_size: int = 2) -> bytes:
    """Return the beginning of a qcow2 image, as qemu-img would read it."""
    offset = 512 if backing else 0
    header = struct.pack(
        ">4sIQIIQIIQQIIQQQQII", b"QFI\xfb", 3, offset, len(backing), 16, size, 0, l1_size,
        0x30000, 0x10000, 1, 0, 0, features, 0, 0, 4, 104,
    )  # fmt: skip
    return (header.ljust(512, b"\0") + backing).ljust(4 << 16, b"\0")


def vmdk(kind: str, extent: str) -> bytes:
    lines = ("# Disk DescriptorFile", "version=1", "CID=fffffffe", "parentCID=ffffffff",
             f'createType="{kind}"', "", f"RW 2048 {extent}", "")  # fmt: skip
    return "\n".join(lines).encode().ljust(64 << 10, b"\n")


DATA_FILE, UNKNOWN = 1 << 2, 1 << 62
UNSAFE = {
    "cve_2015_5163_backing_file": ("qcow2", qcow2(backing=b"/etc/passwd")),
    "cve_2015_5163_backing_json": ("qcow2", qcow2(backing=b'json:{"file.filename":"/etc/passwd"}')),
    "cve_2015_5163_backing_file_in_raw": ("raw", qcow2(backing=b"/etc/passwd")),
    "cve_2022_47951_flat": ("vmdk", vmdk("monolithicFlat", 'FLAT "/etc/passwd" 0')),
    "cve_2022_47951_flat_in_raw": ("raw", vmdk("monolithicFlat", 'FLAT "/etc/passwd" 0')),
    "cve_2022_47951_device": ("vmdk", vmdk("fullDevice", 'FLAT "/dev/sda" 0')),
    "cve_2022_47951_extents": ("vmdk", vmdk("twoGbMaxExtentFlat", 'FLAT "/etc/passwd" 0')),
    "cve_2022_47951_sparse": ("vmdk", vmdk("monolithicSparse", 'FLAT "/etc/passwd" 0')),
    "cve_2024_32498_data_file": ("qcow2", qcow2(DATA_FILE)),
    "cve_2024_32498_data_file_in_raw": ("raw", qcow2(DATA_FILE)),
    "cve_2024_32498_unknown_feature": ("qcow2", qcow2(UNKNOWN)),
    "cve_2024_40767_backed_qcow2_as_vmdk": ("vmdk", qcow2(backing=b"/etc/passwd")),
    "cve_2024_40767_vmdk_as_qcow2": ("qcow2", vmdk("streamOptimized", 'SPARSE "x.vmdk"')),
}


@pytest.mark.parametrize("way", ["length", "chunked", "location"])
@pytest.mark.parametrize("name", UNSAFE)
def test_f8_unsafe_data_is_refused_and_never_served(
    service: Attacked, roles: Callers, web: Origin, name: str, way: str
) -> None:
    """Files of the host were read through images that name them.

    In Glance 33 what was refused with 415 could still be downloaded from the queued image.
    """
    disk_format, data = UNSAFE[name]
    image_id = roles.owner.create(disk_format=disk_format)
    if way == "location":
        reply = add_location(roles.owner, image_id, web.put(f"/{name}", data))
        assert reply.status == 400, reply
    else:
        reply = roles.owner.upload(image_id, iter([data]) if way == "chunked" else data)
        assert reply.status == 415, reply
    assert service.has_nothing_of(image_id)
    for client in (roles.owner, roles.admin, of_service(service)):
        for headers in ({}, {"Range": "bytes=0-9"}):
            got = client.request("GET", f"/v2/images/{image_id}/file", headers=headers)
            assert (got.status, got.body) == (204, b"")


def test_cve_2024_40767_another_format_than_the_declared_one_is_refused_or_told(
    service: Attacked, roles: Callers, web: Origin
) -> None:
    """Checks of the declared format were evaded by data in another one."""
    image_id = roles.owner.create(disk_format="vmdk")
    assert roles.owner.upload(image_id, qcow2()).status == 415
    assert service.has_nothing_of(image_id)
    # At a location it is taken, as in Glance, since it refers to nothing; its size is not believed.
    reply = add_location(roles.owner, image_id, web.put("/other", qcow2()))
    assert reply.status == 202, reply
    shown = roles.admin.show(image_id)
    assert (shown["virtual_size"], shown["os_glance_detected_format"]) == (None, "qcow2")


def test_cve_2024_40767_raw_data_is_as_large_as_it_is(roles: Callers) -> None:
    """A size from a header within was believed of what was said to be raw."""
    image_id = roles.owner.active(qcow2(size=1 << 40), disk_format="raw")
    shown = roles.owner.show(image_id)
    assert shown["virtual_size"] == shown["size"] == len(qcow2())
    declared = roles.owner.active(qcow2(size=1 << 30), disk_format="qcow2")
    assert roles.owner.show(declared)["virtual_size"] == 1 << 30


HUGE = {
    "qcow2-size": ("qcow2", qcow2(size=(1 << 63) - 1)),
    "qcow2-table": ("qcow2", qcow2(l1_size=(1 << 32) - 1)),
    "vmdk-descriptor": (
        "vmdk",
        struct.pack("<4sIIQQQQ", b"KDMV", 1, 3, 1 << 62, 128, 1, 1 << 60).ljust(1 << 16, b"\0"),
    ),
    "vhdx-region": ("vhdx", b"vhdxfile".ljust(192 << 10, b"\0") + b"regi" + b"\xff" * 60_000),
    "vdi": ("vdi", b"<<< Oracle VM VirtualBox Disk Image >>>\n".ljust(1 << 16, b"\xff")),
}


@pytest.mark.parametrize("name", HUGE)
def test_lp_1449062_a_crafted_header_costs_neither_time_nor_memory(
    service: Attacked, roles: Callers, name: str
) -> None:
    """A few bytes kept a program busy that looked into the image, until memory was full."""
    disk_format, data = HUGE[name]
    image_id = roles.owner.create(disk_format=disk_format)
    before, used = service.measure("VmRSS"), service.cpu_seconds()
    assert roles.owner.upload(image_id, data).status in (204, 415)
    assert service.cpu_seconds() - used < 5.0
    assert service.measure("VmRSS") - before < 64 << 10
    children = Path(f"/proc/{service.pid}/task/{service.pid}/children").read_text()
    assert children.strip() == ""
