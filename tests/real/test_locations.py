"""Data on other servers: locations on a real web server, as other services record them."""

import hashlib
import json
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest

from tests.origin import Origin, origin
from tests.real.client import Client, Reply
from tests.real.images import qemu_img
from tests.real.service import Service, free_port, wait_until

PATCH = "application/openstack-images-v2.1-json-patch"
DATA = random.Random(7).randbytes((3 << 20) + 17)
SHA512 = hashlib.sha512(DATA).hexdigest()
MD5 = hashlib.md5(DATA).hexdigest()


@attrs.frozen
class Roles:
    """The callers, each with its own headers; the projects are `one` and `two`."""

    admin: Client
    member: Client
    reader: Client
    stranger: Client
    service: Client
    """Another service, in the project of the member."""


def who(client: Client, project: str, *roles: str) -> Client:
    headers = {
        "X-Identity-Status": "Confirmed",
        "X-User-Id": f"{project}-user",
        "X-Project-Id": project,
        "X-Roles": ",".join(roles),
    }
    return attrs.evolve(client, headers=headers)


def roles_of(service: Service) -> Roles:
    client = service.client
    return Roles(
        admin=who(client, "cloud", "admin", "member", "reader"),
        member=who(client, "one", "member", "reader"),
        reader=who(client, "one", "reader"),
        stranger=who(client, "two", "member", "reader"),
        service=who(client, "one", "service", "member", "reader"),
    )


def options(directory: Path, **more: Any) -> dict[str, Any]:
    return {
        "auth": {"mode": "trusted_headers"},
        "stores": {
            "local": {"type": "file", "path": str(directory / "images")},
            "web": {"type": "http", "weight": -1},
        },
        "import": {"filter": {"allowed_ports": [], "cidrs": ["127.0.0.1/32"]}},
        "locations": {"show": True, **more.pop("locations", {})},
        "logging": {"level": "debug"},
        **more,
    }


class Quiet(Service):
    """Images whose data is elsewhere have no file, so a clean end looks otherwise."""

    def assert_clean(self) -> None:
        log = self.log.read_text()
        assert "Traceback" not in log, log[log.index("Traceback") - 200 :]
        assert self.rows("SELECT id, status FROM images WHERE status = 'saving'") == []
        assert self.rows("SELECT * FROM imgsvc_leases") == []
        assert self.rows("SELECT * FROM image_locations WHERE status = 'pending_delete'") == []
        for secret in ("s3cr3t", "elsewhere-secret"):
            assert secret not in log + self.said.read_text()


@contextmanager
def started(directory: Path, **more: Any) -> Iterator[Service]:
    service = Quiet(directory, options(directory, **more))
    try:
        yield service.start()
        service.stop()
    finally:
        service.end()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with started(tmp_path_factory.mktemp("locations")) as service:
        yield service


@pytest.fixture(scope="module")
def trusting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One that reads nothing of the data."""
    with started(tmp_path_factory.mktemp("trusting"), locations={"secure_hash": False}) as service:
        yield service


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One with neither an http store nor visible locations."""
    directory = tmp_path_factory.mktemp("plain")
    stores = {"local": {"type": "file", "path": str(directory / "images")}}
    with started(directory, stores=stores, locations={"show": False}) as service:
        yield service


@pytest.fixture
def roles(service: Service) -> Roles:
    return roles_of(service)


@pytest.fixture(scope="module")
def web() -> Iterator[Origin]:
    with origin() as server:
        server.put("/disk.raw", DATA)
        server.put("/empty", b"")
        yield server


def add(client: Client, image_id: str, url: str, **validation_data: Any) -> Reply:
    document: dict[str, Any] = {"url": url}
    if validation_data:
        document["validation_data"] = validation_data
    return client.post(f"/v2/images/{image_id}/locations", document)


def change(client: Client, image_id: str, *operations: dict[str, Any]) -> Reply:
    body = json.dumps(operations).encode()
    return client.request("PATCH", f"/v2/images/{image_id}", body, {"Content-Type": PATCH})


def adding(url: str, at: str = "-", **more: Any) -> dict[str, Any]:
    value = {"url": url, "metadata": {}, **more}
    return {"op": "add", "path": f"/locations/{at}", "value": value}


def removing(at: str) -> dict[str, Any]:
    return {"op": "remove", "path": f"/locations/{at}"}


def replacing(*locations: dict[str, Any]) -> dict[str, Any]:
    return {"op": "replace", "path": "/locations", "value": list(locations)}


def assert_queued(client: Client, image_id: str) -> None:
    image = client.show(image_id)
    assert image["status"] == "queued"
    for name in ("size", "virtual_size", "checksum", "os_hash_algo", "os_hash_value"):
        assert image[name] is None
    assert client.download(image_id).status == 204


# -- the API of its own ---------------------------------------------------------------------------


def test_a_member_names_a_location_and_the_image_is_active(roles: Roles, web: Origin) -> None:
    image_id = roles.member.create()
    reply = add(roles.member, image_id, web.url("/disk.raw"))
    assert (reply.status, reply.body) == (202, b"")
    image = roles.member.show(image_id)
    assert image["status"] == "active"
    assert (image["size"], image["virtual_size"]) == (len(DATA), len(DATA))
    assert (image["checksum"], image["os_hash_algo"], image["os_hash_value"]) == (
        MD5, "sha512", SHA512,
    )  # fmt: skip
    assert image["stores"] == "web"
    assert roles.member.download(image_id).body == DATA
    part = roles.member.download(image_id, Range="bytes=1000000-1000099")
    assert (part.status, part.body) == (206, DATA[1000000:1000100])


def test_only_services_and_administrators_see_locations(roles: Roles, web: Origin) -> None:
    image_id = roles.member.create()
    url = web.url("/disk.raw")
    assert add(roles.member, image_id, url).status == 202
    path = f"/v2/images/{image_id}/locations"
    for client in (roles.service, roles.admin):
        reply = client.get(path)
        assert (reply.status, reply.json()) == (200, [{"url": url, "metadata": {"store": "web"}}])
    assert roles.member.get(path).status == 403
    assert roles.reader.get(path).status == 403
    assert roles.stranger.get(path).status == 404
    assert who(roles.member, "two", "service", "member", "reader").get(path).status == 404


def test_who_may_name_a_location(roles: Roles, web: Origin) -> None:
    image_id = roles.member.create()
    url = web.url("/disk.raw")
    asked = len(web.asked)
    assert add(roles.reader, image_id, url).status == 403
    assert add(roles.stranger, image_id, url).status == 404
    assert add(roles.member, image_id[:-1] + "x", url).status == 404
    for other in ("file:///etc/passwd", "rbd://a/b/c/d", "ftp://127.0.0.1/x", "x", ""):
        assert add(roles.member, image_id, other).status == 403
        assert add(roles.service, image_id, other).status == 400
    assert len(web.asked) == asked
    assert add(roles.service, image_id, url).status == 202
    reply = add(roles.service, image_id, url)
    assert reply.status == 409
    assert b"active" in reply.body


def test_a_service_may_name_a_location_on_behalf_of_a_member(roles: Roles) -> None:
    """Here no store takes it; who is no service is not told."""
    image_id = roles.member.create()
    confirmed = {"X-Service-Identity-Status": "Confirmed", "X-Service-Roles": "reader,Service"}
    for told, status in (
        (confirmed, 400),
        ({**confirmed, "X-Service-Identity-Status": "Invalid"}, 403),
        ({"X-Service-Roles": "service"}, 403),
        ({**confirmed, "X-Service-Roles": "member"}, 403),
    ):
        delegate = attrs.evolve(roles.member, headers={**roles.member.headers, **told})
        assert add(delegate, image_id, "rbd://a/b/c/d").status == status, told
    delegate = attrs.evolve(roles.stranger, headers={**roles.stranger.headers, **confirmed})
    assert add(delegate, image_id, "rbd://a/b/c/d").status == 404
    delegate = attrs.evolve(roles.reader, headers={**roles.reader.headers, **confirmed})
    assert add(delegate, image_id, "rbd://a/b/c/d").status == 403


def test_validation_data_that_is_right(roles: Roles, web: Origin) -> None:
    image_id = roles.member.create()
    reply = add(
        roles.member, image_id, web.url("/disk.raw"), os_hash_algo="sha512",
        os_hash_value=SHA512.upper(),
    )  # fmt: skip
    assert reply.status == 202
    assert roles.member.show(image_id)["os_hash_value"] == SHA512


@pytest.mark.parametrize("algorithm", ["sha1", "sha256", "sha512", "md5"])
def test_the_algorithm_of_the_validation_data_is_used(
    roles: Roles, web: Origin, service: Service, algorithm: str
) -> None:
    value = hashlib.new(algorithm, DATA).hexdigest()
    image_id = roles.member.create()
    given = {"os_hash_algo": algorithm, "os_hash_value": value}
    assert add(roles.member, image_id, web.url("/disk.raw"), **given).status == 202
    image = roles.member.show(image_id)
    assert (image["os_hash_algo"], image["os_hash_value"]) == (algorithm, value)
    assert image["checksum"] == MD5
    assert roles.member.download(image_id).body == DATA


@pytest.mark.parametrize(
    ("given", "status"),
    [
        ({"os_hash_algo": "sha512", "os_hash_value": "0" * 128}, 400),
        ({"os_hash_algo": "sha512", "os_hash_value": "x" * 128}, 400),
        ({"os_hash_algo": "sha512", "os_hash_value": SHA512[1:]}, 400),
        ({"os_hash_algo": "sha512", "os_hash_value": SHA512[2:]}, 400),
        ({"os_hash_algo": "sha512"}, 400),
        ({"os_hash_value": SHA512}, 400),
        ({"os_hash_algo": "sha256", "os_hash_value": "0" * 64}, 400),
        ({"os_hash_algo": "sha256", "os_hash_value": SHA512}, 400),
        ({"os_hash_algo": "md5", "os_hash_value": "0" * 32}, 400),
        ({"os_hash_algo": "sha384", "os_hash_value": "0" * 96}, 400),
        ({"os_hash_algo": "sha3_256", "os_hash_value": "0" * 64}, 400),
        ({"os_hash_algo": "sha512", "os_hash_value": 5}, 400),
        ({"os_hash_algo": ["sha512"], "os_hash_value": SHA512}, 400),
        ({"os_hash_algo": "sha512", "os_hash_value": SHA512, "more": "x"}, 400),
    ],
)
def test_validation_data_that_is_wrong(
    roles: Roles, web: Origin, given: dict[str, Any], status: int
) -> None:
    image_id = roles.member.create()
    assert add(roles.member, image_id, web.url("/disk.raw"), **given).status == status
    assert_queued(roles.member, image_id)
    assert add(roles.member, image_id, web.url("/disk.raw")).status == 202


@pytest.mark.parametrize(
    "document",
    [[], "x", {}, {"url": 5}, {"url": None}, {"url": "http://x/" + "a" * 9000},
     {"url": "http://127.0.0.1/\U0001f600"}, {"url": "http://127.0.0.1/", "validation_data": []},
     {"url": "http://127.0.0.1/", "validation_data": "x"}],
)  # fmt: skip
def test_documents_that_are_no_location(roles: Roles, document: Any) -> None:
    image_id = roles.member.create()
    assert roles.member.post(f"/v2/images/{image_id}/locations", document).status == 400
    assert_queued(roles.member, image_id)


def test_what_the_filter_refuses(roles: Roles, web: Origin) -> None:
    image_id = roles.member.create()
    asked = len(web.asked)
    port = web.port
    web.redirect("/inside", "http://169.254.169.254/latest/meta-data")
    for url in (
        f"http://[::ffff:127.0.0.2]:{port}/", f"http://127.0.0.2:{port}/disk.raw",
        f"http://[::1]:{port}/disk.raw", "http://169.254.169.254/", f"http://0x7f.2:{port}/",
        f"http://0:{port}/disk.raw", f"http://s3cr3t:s3cr3t@127.0.0.3:{port}/", "http://[",
        f"http://127.0.0.1\\@127.0.0.2:{port}/",
    ):  # fmt: skip
        reply = add(roles.member, image_id, url)
        assert reply.status == 400, url
        assert b"127.0.0" not in reply.body
        assert b"s3cr3t" not in reply.body
        if "@" not in url:
            assert change(roles.member, image_id, adding(url)).status == 400, url
    assert len(web.asked) == asked
    assert add(roles.member, image_id, web.url("/inside")).status == 400
    assert [one.path for one in web.asked[asked:]] == ["/inside"]
    assert_queued(roles.member, image_id)


def test_data_that_is_not_there(roles: Roles, web: Origin) -> None:
    image_id = roles.member.create()
    web.put("/broken", DATA, cut=100)
    web.put("/unsized", b"5\r\nabcde\r\n0\r\n\r\n", headers={"Transfer-Encoding": "chunked"},
            ranges=False)  # fmt: skip
    web.put("/down", b"", status=500)
    for path, status in (("/missing", 400), ("/empty", 400), ("/broken", 503),
                         ("/unsized", 503), ("/down", 503)):  # fmt: skip
        assert add(roles.member, image_id, web.url(path)).status == status, path
        assert_queued(roles.member, image_id)
    reply = add(roles.member, image_id, f"http://s3cr3t:pw@127.0.0.1:{free_port()}/x")
    assert reply.status == 503
    assert b"s3cr3t" not in reply.body
    assert add(roles.member, image_id, web.url("/disk.raw")).status == 202


def test_data_of_another_length_than_the_server_told(roles: Roles, web: Origin) -> None:
    image_id = roles.member.create()
    for told in (1, len(DATA) - 1, len(DATA) + 1):
        for ranges in (True, False):
            url = web.put("/lie", DATA, told=told, ranges=ranges)
            assert add(roles.member, image_id, url).status == 400
            assert_queued(roles.member, image_id)
    sent = web.asked[-1].headers["Range"]
    assert sent == f"bytes=0-{len(DATA) + 1}"


def test_data_in_another_format_is_taken_and_noted(
    roles: Roles, web: Origin, service: Service, tmp_path: Path
) -> None:
    qemu_img("create", "-f", "qcow2", tmp_path / "disk", "1M")
    web.put("/other.qcow2", (tmp_path / "disk").read_bytes())
    for declared, path, found in (
        ("qcow2", "/disk.raw", "raw"),
        ("vmdk", "/other.qcow2", "qcow2"),
        ("raw", "/other.qcow2", "qcow2"),
    ):
        image_id = roles.member.create(disk_format=declared)
        assert add(roles.member, image_id, web.url(path)).status == 202
        image = roles.member.show(image_id)
        assert (image["status"], image["disk_format"]) == ("active", declared)
        assert image["virtual_size"] == (image["size"] if declared == "raw" else None)
        assert "os_glance_detected_format" not in image
        assert roles.admin.show(image_id)["os_glance_detected_format"] == found
        said = f"Image {image_id}: its disk_format is {declared}, but its data is {found}"
        wait_until(lambda said=said: said in service.log.read_text())


def test_data_that_is_refused_for_what_it_is(roles: Roles, web: Origin) -> None:
    header = b"QFI\xfb\x00\x00\x00\x03" + (b"\x00\x00\x00\x00\x00\x00\x02\x00" + b"\0\0\0\x07"
             + bytes(12) + (1 << 30).to_bytes(8, "big")) + bytes(400)  # fmt: skip
    web.put("/disk.qcow2", header + b"/etc/passwd".ljust(1 << 16, b"\0"))
    for declared in ("qcow2", "raw", "vmdk"):
        image_id = roles.member.create(disk_format=declared)
        reply = add(roles.member, image_id, web.url("/disk.qcow2"))
        assert reply.status == 400
        assert b"safety" in reply.body
        assert_queued(roles.member, image_id)


def test_an_image_without_formats_cannot_have_data(roles: Roles, web: Origin) -> None:
    reply = roles.member.post("/v2/images", {"name": "x"})
    image_id = reply.json()["id"]
    assert add(roles.member, image_id, web.url("/disk.raw")).status == 400
    assert change(roles.member, image_id, adding(web.url("/disk.raw"))).status == 400
    assert_queued(roles.member, image_id)


def test_servers_that_know_neither_head_nor_ranges(roles: Roles, web: Origin) -> None:
    url = web.put("/simple", DATA, head=False, ranges=False)
    image_id = roles.member.create()
    assert add(roles.member, image_id, url).status == 202
    part = roles.member.download(image_id, Range="bytes=2000000-")
    assert (part.status, part.body) == (206, DATA[2000000:])
    url = web.put("/headless", DATA, head=False)
    image_id = roles.member.create()
    assert add(roles.member, image_id, url).status == 202
    assert roles.member.show(image_id)["size"] == len(DATA)


def test_deleting_the_image_leaves_the_data_alone(
    roles: Roles, web: Origin, service: Service
) -> None:
    image_id = roles.member.create()
    assert add(roles.member, image_id, web.url("/disk.raw")).status == 202
    asked = len(web.asked)
    assert roles.member.delete(f"/v2/images/{image_id}").status == 204
    assert roles.member.get(f"/v2/images/{image_id}").status == 404
    assert len(web.asked) == asked
    assert service.rows("SELECT * FROM imgsvc_leases") == []


def test_nothing_can_be_uploaded_to_a_web_server(roles: Roles) -> None:
    image_id = roles.member.create()
    reply = roles.member.upload(image_id, b"data", X_Image_Meta_Store="web")
    assert reply.status == 403
    assert_queued(roles.member, image_id)


def test_credentials_are_for_administrators_only(roles: Roles, web: Origin) -> None:
    image_id = roles.member.create()
    url = web.url("/disk.raw").replace("//", "//user:s3cr3t@")
    assert add(roles.member, image_id, url).status == 202
    assert web.asked[-1].headers["Authorization"].startswith("Basic ")
    for client in (roles.member, roles.reader):
        assert client.show(image_id)["locations"][0]["url"] == web.url("/disk.raw")
        assert b"s3cr3t" not in client.get("/v2/images").body
    path = f"/v2/images/{image_id}/locations"
    assert roles.service.get(path).json()[0]["url"] == web.url("/disk.raw")
    assert roles.admin.get(path).json()[0]["url"] == url
    assert roles.admin.show(image_id)["locations"][0]["url"] == url
    assert roles.member.download(image_id).body == DATA


def test_without_an_http_store(plain: Service, web: Origin) -> None:
    roles = roles_of(plain)
    image_id = roles.member.create()
    url = web.url("/disk.raw")
    assert add(roles.member, image_id, url).status == 403
    assert add(roles.admin, image_id, url).status == 403
    assert add(roles.service, image_id, url).status == 400
    for operation in (adding(url), replacing({"url": url, "metadata": {}}), removing("0")):
        assert change(roles.admin, image_id, operation).status == 403
    assert_queued(roles.member, image_id)


def test_without_secure_hash_the_values_are_believed(trusting: Service, web: Origin) -> None:
    roles = roles_of(trusting)
    asked = len(web.asked)
    image_id = roles.member.create()
    given = {"os_hash_algo": "sha256", "os_hash_value": "ab" * 32}
    assert add(roles.member, image_id, web.url("/disk.raw"), **given).status == 202
    image = roles.member.show(image_id)
    assert image["status"] == "active"
    assert (image["size"], image["checksum"]) == (len(DATA), None)
    assert (image["os_hash_algo"], image["os_hash_value"]) == ("sha256", "ab" * 32)
    assert [one.method for one in web.asked[asked:]] == ["HEAD"]
    other = roles.member.create()
    assert add(roles.member, other, web.url("/disk.raw")).status == 202
    assert roles.member.show(other)["os_hash_value"] is None
    assert roles.member.download(other).body == DATA


# -- patches --------------------------------------------------------------------------------------


def test_a_location_makes_a_queued_image_active(roles: Roles, web: Origin) -> None:
    image_id = roles.member.create()
    given = {"checksum": MD5, "os_hash_algo": "sha512", "os_hash_value": SHA512}
    url = web.url("/disk.raw")
    reply = change(roles.member, image_id, adding(url, validation_data=given))
    assert reply.status == 200, reply
    image = reply.json()
    assert (image["status"], image["size"]) == ("active", len(DATA))
    assert {name: image[name] for name in given} == given
    assert image["locations"] == [{"url": url, "metadata": {"store": "web"}}]
    assert roles.member.show(image_id)["locations"] == image["locations"]
    assert roles.member.download(image_id).body == DATA


def test_replace_fills_what_is_empty_and_else_changes_metadata(roles: Roles, web: Origin) -> None:
    image_id = roles.member.create()
    url, second = web.url("/disk.raw"), web.put("/copy.raw", DATA)
    assert change(roles.member, image_id, replacing()).status == 403
    both = [{"url": url, "metadata": {"a": "b"}}, {"url": second, "metadata": {"store": "web"}}]
    reply = change(roles.member, image_id, replacing(*both))
    assert reply.status == 200, reply
    assert [one["metadata"] for one in reply.json()["locations"]] == [
        {"a": "b", "store": "web"}, {"store": "web"},
    ]  # fmt: skip
    asked = len(web.asked)
    both[0]["metadata"] = {"c": ["1", {"d": ""}]}
    reply = change(roles.member, image_id, replacing(*both))
    assert reply.status == 200, reply
    shown = roles.member.show(image_id)["locations"]
    assert shown[0] == {"url": url, "metadata": {"c": ["1", {"d": ""}], "store": "web"}}
    assert len(web.asked) == asked
    for wrong, status in (
        ([], 403),
        (both[:1], 400),
        ([*both, {"url": web.put("/third.raw", DATA), "metadata": {}}], 400),
        ([both[0], both[0]], 400),
    ):
        assert change(roles.member, image_id, replacing(*wrong)).status == status
    assert roles.member.show(image_id)["locations"] == shown


def test_locations_are_removed_by_administrators_but_never_the_last(
    roles: Roles, web: Origin, service: Service
) -> None:
    image_id = roles.member.active(DATA)
    assert change(roles.member, image_id, adding(web.url("/disk.raw"))).status == 200
    assert roles.member.show(image_id)["stores"] == "local,web"
    assert image_id in service.files()
    assert change(roles.member, image_id, removing("0")).status == 403
    for position in ("2", "x", "-1", "00000000001", "9" * 30):
        assert change(roles.admin, image_id, removing(position)).status == 400
    reply = change(roles.admin, image_id, removing("0"))
    assert reply.status == 200, reply
    assert reply.json()["stores"] == "web"
    assert image_id not in service.files()
    assert roles.member.download(image_id).body == DATA
    rows = service.rows(
        "SELECT deleted, status FROM image_locations WHERE image_id = ? ORDER BY id", image_id
    )
    assert rows == [(1, "deleted"), (0, "active")]
    assert change(roles.admin, image_id, removing("0")).status == 403
    assert change(roles.admin, image_id, removing("-")).status == 403


def test_a_location_of_another_size_is_other_data(roles: Roles, web: Origin) -> None:
    image_id = roles.member.active(DATA)
    url = web.put("/other.raw", DATA[1:])
    assert change(roles.member, image_id, adding(url)).status == 400
    assert roles.member.show(image_id)["stores"] == "local"


def test_a_patch_is_applied_as_a_whole_or_not_at_all(roles: Roles, web: Origin) -> None:
    image_id = roles.member.create(name="before")
    naming = {"op": "replace", "path": "/name", "value": "after"}
    url = web.url("/disk.raw")
    for wrong in (adding(url), removing("0"), {"op": "remove", "path": "/nothing"}):
        reply = change(roles.member, image_id, naming, adding(url), wrong)
        assert reply.status in (400, 403, 409), reply
        assert_queued(roles.member, image_id)
        assert roles.member.show(image_id)["name"] == "before"
    assert change(roles.member, image_id, adding(url), naming).status == 200
    assert roles.member.show(image_id)["name"] == "after"


def test_an_image_has_ten_locations_at_most(roles: Roles, web: Origin) -> None:
    image_id = roles.member.create()
    urls = [web.put(f"/{number}.raw", DATA) for number in range(11)]
    assert change(roles.member, image_id, *map(adding, urls)).status == 413
    assert_queued(roles.member, image_id)
    assert change(roles.member, image_id, *map(adding, urls[:10])).status == 200
    assert change(roles.member, image_id, adding(urls[10])).status == 413
    assert change(roles.admin, image_id, removing("3"), adding(urls[10])).status == 200
    assert len(roles.member.show(image_id)["locations"]) == 10


@pytest.mark.parametrize(
    ("given", "status"),
    [
        ({"os_hash_algo": "sha512", "os_hash_value": "x" * 128}, 409),
        ({"os_hash_algo": "sha512", "os_hash_value": "00"}, 409),
        ({"os_hash_algo": "sha256", "os_hash_value": "0" * 64}, 409),
        ({"os_hash_algo": "sha512", "os_hash_value": SHA512, "checksum": "x" * 32}, 409),
        ({"os_hash_algo": "sha512", "os_hash_value": SHA512, "checksum": "0"}, 400),
        ({"os_hash_algo": "sha512"}, 400),
        ({"os_hash_algo": "sha512", "os_hash_value": SHA512, "more": "x"}, 400),
    ],
)
def test_validation_data_in_patches(
    roles: Roles, web: Origin, given: dict[str, Any], status: int
) -> None:
    image_id = roles.member.create()
    adds = adding(web.url("/disk.raw"), validation_data=given)
    assert change(roles.member, image_id, adds).status == status
    assert_queued(roles.member, image_id)


def test_validation_data_of_an_active_image_can_only_be_repeated(roles: Roles, web: Origin) -> None:
    image_id = roles.member.active(DATA)
    right = {"checksum": MD5, "os_hash_algo": "sha512", "os_hash_value": SHA512}
    url = web.url("/disk.raw")
    for wrong in ({**right, "checksum": "0" * 32}, {**right, "os_hash_value": "0" * 128}):
        assert change(roles.member, image_id, adding(url, validation_data=wrong)).status == 409
    assert change(roles.member, image_id, adding(url, validation_data=right)).status == 200


def test_locations_change_only_while_an_image_is_queued_or_active(
    roles: Roles, web: Origin
) -> None:
    image_id = roles.member.active(DATA)
    url = web.url("/disk.raw")
    assert change(roles.admin, image_id, adding(url)).status == 200
    assert roles.admin.post(f"/v2/images/{image_id}/actions/deactivate", {}).status in (204, 400)
    deactivating = roles.admin.request("POST", f"/v2/images/{image_id}/actions/deactivate")
    assert deactivating.status == 204
    for operation in (adding(web.url("/copy.raw")), removing("0"), replacing()):
        assert change(roles.admin, image_id, operation).status in (403, 409)
    assert add(roles.service, image_id, url).status == 409


def test_whose_image_it_is_not(roles: Roles, web: Origin) -> None:
    image_id = roles.member.create()
    asked = len(web.asked)
    assert change(roles.stranger, image_id, adding(web.url("/disk.raw"))).status == 404
    assert change(roles.reader, image_id, adding(web.url("/disk.raw"))).status == 403
    assert len(web.asked) == asked


def nested(depth: int) -> Any:
    value: Any = "x"
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    "value",
    ["x", None, {"url": "x"}, {"metadata": {}}, {"url": 5, "metadata": {}},
     {"url": "http://127.0.0.1/", "metadata": []},
     {"url": "http://127.0.0.1/", "metadata": {"\U0001f600": "x"}},
     {"url": "http://127.0.0.1/", "metadata": {"a": {"b": ["c", None]}}},
     {"url": "http://127.0.0.1/", "metadata": {"a": True}},
     {"url": "http://127.0.0.1/", "metadata": {"a": nested(33)}},
     {"url": "http://127.0.0.1/", "metadata": {"a": nested(900)}},
     {"url": "file:///etc/passwd", "metadata": {}},
     {"url": "filesystem:///etc/passwd", "metadata": {"store": "local"}},
     {"url": "swift+config://x/y/z", "metadata": {}}, {"url": "", "metadata": {}}],
)  # fmt: skip
def test_values_that_are_no_location(roles: Roles, value: Any) -> None:
    image_id = roles.member.create()
    adds = {"op": "add", "path": "/locations/-", "value": value}
    assert change(roles.member, image_id, adds).status == 400
    assert change(roles.member, image_id, replacing(value)).status == 400
    assert_queued(roles.member, image_id)


@pytest.mark.parametrize("store", ["local", "web", "unknown"])
def test_the_store_is_that_of_the_url(roles: Roles, web: Origin, store: str) -> None:
    url = web.url("/disk.raw")
    value = {"url": url, "metadata": {"store": store, "a": "b"}}
    expected = [{"url": url, "metadata": {"store": "web", "a": "b"}}]
    for operation in ({"op": "add", "path": "/locations/-", "value": value}, replacing(value)):
        image_id = roles.member.create()
        assert change(roles.member, image_id, operation).status == 200
        assert roles.member.show(image_id)["locations"] == expected


@pytest.mark.parametrize("position", ["1", "x", "-1", "00000000001", "+0", "0x0"])
def test_positions_that_do_not_exist(roles: Roles, web: Origin, position: str) -> None:
    image_id = roles.member.create()
    assert change(roles.member, image_id, adding(web.url("/disk.raw"), position)).status == 400
    assert change(roles.member, image_id, adding(web.url("/disk.raw"), "0")).status == 200


# -- crashes --------------------------------------------------------------------------------------


def test_a_crash_while_data_is_read_leaves_the_image_queued(tmp_path: Path) -> None:
    """And the data alone, which is not ours."""
    with origin() as slow:
        slow.put("/disk.raw", bytes(64 << 20))
        slow.pause = 0.05
        with started(tmp_path) as service:
            roles = roles_of(service)
            image_id = roles.member.create()
            with roles.member.connect() as connection:
                body = json.dumps({"url": slow.url("/disk.raw")}).encode()
                head = f"POST /v2/images/{image_id}/locations HTTP/1.1\r\nHost: localhost\r\n"
                head += "".join(f"{k}: {v}\r\n" for k, v in roles.member.headers.items())
                connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
                wait_until(
                    lambda: service.rows("SELECT kind FROM imgsvc_leases") == [("location",)]
                )
                assert roles.member.show(image_id)["status"] == "saving"
                assert roles.member.show(image_id)["locations"] == []
                service.kill()
            asked = len(slow.asked)
            service.start()
            wait_until(lambda: roles.member.show(image_id)["status"] == "queued")
            assert_queued(roles.member, image_id)
            assert len(slow.asked) == asked
            slow.pause = 0.0
            assert add(roles.member, image_id, slow.url("/disk.raw")).status == 202


def test_an_image_deleted_while_its_data_is_read_is_gone(service: Service, roles: Roles) -> None:
    with origin() as slow:
        slow.put("/disk.raw", bytes(64 << 20))
        slow.pause = 0.3
        image_id = roles.member.create()
        with roles.member.connect() as connection:
            body = json.dumps({"url": slow.url("/disk.raw")}).encode()
            head = f"POST /v2/images/{image_id}/locations HTTP/1.1\r\nHost: localhost\r\n"
            head += "".join(f"{k}: {v}\r\n" for k, v in roles.member.headers.items())
            connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            wait_until(lambda: bool(service.rows("SELECT kind FROM imgsvc_leases")))
            assert roles.member.delete(f"/v2/images/{image_id}").status == 204
            began = time.monotonic()
            answer = connection.recv(100)
        assert answer.startswith(b"HTTP/1.1 410")
        assert time.monotonic() - began < 100, "where all of the data takes longer"
    wait_until(lambda: service.rows("SELECT kind FROM imgsvc_leases") == [])


def test_data_of_a_lost_location_is_removed_after_a_crash(tmp_path: Path, web: Origin) -> None:
    """A file store that cannot remove just now keeps its lease, and the next start tries again."""
    with started(tmp_path) as service:
        roles = roles_of(service)
        image_id = roles.member.active(DATA)
        assert change(roles.member, image_id, adding(web.url("/disk.raw"))).status == 200
        hidden = tmp_path / "hidden"
        service.store.rename(hidden)
        (tmp_path / "images").write_text("no directory")
        assert change(roles.admin, image_id, removing("0")).status == 200
        assert roles.member.show(image_id)["stores"] == "web"
        assert service.rows("SELECT kind FROM imgsvc_leases") == [("remove",)]
        service.kill()
        (tmp_path / "images").unlink()
        hidden.rename(service.store)
        service.start()
        wait_until(lambda: service.rows("SELECT * FROM imgsvc_leases") == [])
        assert service.files() == {}
