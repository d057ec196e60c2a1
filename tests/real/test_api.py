"""What clients of the Images API rely on, asked of a running service."""

import hashlib
import re
import uuid
from typing import Any

import pytest

from tests.real.client import Client, receive
from tests.real.service import Service

NOWHERE = "00000000-0000-4000-8000-000000000000"
JSON = "application/json"
EMPTY_MD5 = hashlib.md5(b"").hexdigest()
OFFERED = ["v2.15", "v2.13", "v2.12", "v2.11", "v2.10", "v2.9", "v2.8", "v2.17"]
OFFERED += [f"v2.{minor}" for minor in range(7, -1, -1)]


# -- versions -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/", 300),
        ("/versions", 200),
        ("/versions/", 200),
        ("/v1", 300),
        ("/v9/images", 300),
        ("/v2.99", 300),
        ("/v2.14/images", 300),
        ("/anything", 300),
    ],
)
def test_versions_are_listed(client: Client, path: str, status: int) -> None:
    reply = client.get(path)
    assert (reply.status, reply.headers["content-type"]) == (status, JSON)
    versions = reply.json()["versions"]
    assert [one["id"] for one in versions] == OFFERED
    assert [one["id"] for one in versions if one["status"] == "CURRENT"] == ["v2.17"]
    assert {one["status"] for one in versions} == {"CURRENT", "SUPPORTED"}
    assert all(one["links"] == [{"rel": "self", "href": f"{client.url}/v2/"}] for one in versions)


@pytest.mark.parametrize("version", ["v2", "v2.0", "v2.7", "v2.15", "v2.17"])
def test_every_offered_version_is_the_same_api(client: Client, version: str) -> None:
    assert client.get(f"/{version}/images?limit=0").status == 200


def test_version_by_media_type(client: Client) -> None:
    reply = client.get("/images?limit=0", Accept="application/vnd.openstack.images-v2.5")
    assert (reply.status, reply.json()["images"]) == (200, [])


def test_bare_version_redirects(client: Client) -> None:
    reply = client.get("/v2")
    assert (reply.status, reply.headers["location"]) == (302, f"{client.url}/v2/")


@pytest.mark.parametrize("path", ["/v2/", "/v2/images/", f"/v2/images/{NOWHERE}/", "/v2/nothing"])
def test_trailing_slashes_and_unknown_paths(client: Client, path: str) -> None:
    assert client.get(path).status == 404


# -- methods and errors ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/v2/images", "GET, POST"),
        ("DELETE", "/v2/images", "GET, POST"),
        ("PATCH", f"/v2/images/{NOWHERE}/file", "GET, PUT"),
        ("POST", f"/v2/images/{NOWHERE}/file", "GET, PUT"),
        ("DELETE", f"/v2/images/{NOWHERE}/file", "GET, PUT"),
        ("TRACE", "/v2/schemas/image", "GET"),
    ],
)
def test_wrong_method(client: Client, method: str, path: str, allowed: str) -> None:
    reply = client.request(method, path, headers={"Accept": JSON})
    assert (reply.status, reply.headers["allow"]) == (405, allowed)
    assert reply.json()["code"] == "405 Method Not Allowed"


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_wrong_method_on_an_image(client: Client, method: str) -> None:
    reply = client.request(method, f"/v2/images/{NOWHERE}")
    assert reply.status == 405
    assert {"GET", "DELETE"} <= set(reply.headers["allow"].split(", "))


def test_head_has_no_body_and_keeps_the_connection(client: Client) -> None:
    with client.connect() as connection:
        connection.sendall(b"HEAD /v2/images HTTP/1.1\r\nHost: localhost\r\n\r\n")
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += connection.recv(1)
        connection.sendall(b"GET /healthcheck HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert receive(connection).body == b"OK"


def test_options_without_an_origin_is_answered(client: Client) -> None:
    reply = client.request("OPTIONS", "/v2/images")
    assert (reply.status, reply.body) == (200, b"")
    assert not any(name.startswith("access-control") for name in reply.headers)


def test_error_as_json(client: Client) -> None:
    reply = client.get(f"/v2/images/{NOWHERE}", Accept=JSON)
    assert (reply.status, reply.headers["content-type"]) == (404, JSON)
    assert reply.json() == {
        "message": f"No image found with ID {NOWHERE}",
        "code": "404 Not Found",
        "title": "Not Found",
    }


@pytest.mark.parametrize("headers", [{}, {"Accept": "*/*"}, {"Accept": "image/png"}])
def test_error_for_who_names_no_type(client: Client, headers: dict[str, str]) -> None:
    reply = client.get(f"/v2/images/{NOWHERE}", **headers)
    assert (reply.status, reply.headers["content-type"]) == (404, JSON)
    message = f"No image found with ID {NOWHERE}"
    assert reply.json() == {"error": {"message": message, "code": 404, "title": "Not Found"}}


@pytest.mark.parametrize("accept", ["text/html", "text/html;q=0.9, application/json;q=0.1"])
def test_error_as_html(client: Client, accept: str) -> None:
    reply = client.get(f"/v2/images/{NOWHERE}", Accept=accept)
    assert (reply.status, reply.headers["content-type"]) == (404, "text/html; charset=UTF-8")
    text = reply.body.decode()
    assert text.startswith("<html>")
    assert "<title>404 Not Found</title>" in text
    assert f"No image found with ID {NOWHERE}" in text


def test_error_as_text(client: Client) -> None:
    reply = client.get(f"/v2/images/{NOWHERE}", Accept="text/plain")
    assert (reply.status, reply.headers["content-type"]) == (404, "text/plain; charset=UTF-8")
    assert reply.body.decode() == f"404 Not Found\n\nNo image found with ID {NOWHERE}\n"


def test_error_pages_carry_no_markup_of_the_client(client: Client) -> None:
    reply = client.get("/v2/images/%3Cscript%3E", Accept="text/html")
    assert reply.status == 404
    assert b"<script>" not in reply.body


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", f"/v2/images/{NOWHERE}"),
        ("GET", f"/v2/images/{NOWHERE}/file"),
        ("DELETE", f"/v2/images/{NOWHERE}"),
        ("GET", "/v2/schemas/image"),
    ],
)
def test_body_on_a_route_without_one(client: Client, method: str, path: str) -> None:
    reply = client.request(method, path, b"{}", {"Content-Type": JSON})
    assert reply.status == 400


def test_body_does_not_delete(client: Client) -> None:
    image_id = client.create()
    assert client.request("DELETE", f"/v2/images/{image_id}", b"x").status == 400
    assert client.show(image_id)["status"] == "queued"


# -- request ids ----------------------------------------------------------------------------------


def test_every_answer_has_a_request_id(client: Client) -> None:
    for path in ("/", "/versions", "/v2/images", f"/v2/images/{NOWHERE}", "/v2/nothing"):
        found = client.get(path).headers["x-openstack-request-id"]
        assert found.startswith("req-")
        assert str(uuid.UUID(found.removeprefix("req-"))) == found.removeprefix("req-")


@pytest.mark.parametrize(("given", "used"), [("abc", "req-abc"), ("req-abc", "req-abc")])
def test_request_id_of_the_client(client: Client, given: str, used: str) -> None:
    reply = client.get("/v2/images?limit=0", X_Openstack_Request_ID=given)
    assert reply.headers["x-openstack-request-id"] == used


def test_overlong_request_id(client: Client) -> None:
    assert client.get("/v2/images", X_Openstack_Request_ID="r" * 64).status == 200
    assert client.get("/v2/images", X_Openstack_Request_ID="r" * 65).status == 431


# -- create and show ------------------------------------------------------------------------------


def test_new_image_has_every_field(client: Client) -> None:
    reply = client.post("/v2/images", {"name": "one"})
    assert reply.status == 201
    document = reply.json()
    image_id, created = document.pop("id"), document.pop("created_at")
    assert reply.headers["location"] == f"{client.url}/v2/images/{image_id}"
    assert reply.headers["openstack-image-store-ids"] == "local"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", created)
    assert document == {
        "name": "one",
        "status": "queued",
        "visibility": "shared",
        "protected": False,
        "os_hidden": False,
        "owner": "admin",
        "disk_format": None,
        "container_format": None,
        "min_disk": 0,
        "min_ram": 0,
        "size": None,
        "virtual_size": None,
        "checksum": None,
        "os_hash_algo": None,
        "os_hash_value": None,
        "tags": [],
        "updated_at": created,
        "self": f"/v2/images/{image_id}",
        "file": f"/v2/images/{image_id}/file",
        "schema": "/v2/schemas/image",
    }
    assert client.show(image_id) == {**document, "id": image_id, "created_at": created}


def test_all_that_a_client_may_set(client: Client) -> None:
    wanted: dict[str, Any] = {
        "id": str(uuid.uuid4()),
        "name": "Grüße 世界",
        "visibility": "community",
        "protected": False,
        "os_hidden": True,
        "owner": "somebody else",
        "disk_format": "qcow2",
        "container_format": "ova",
        "min_disk": 2**31 - 1,
        "min_ram": 512,
        "os_distro": "debian",
        "k" * 255: "v" * 5000,
        "x/y ~z": "",
    }
    image_id = client.create(**wanted, tags=["b", "a", "b"])
    shown = client.show(image_id)
    assert {name: shown[name] for name in wanted} == wanted
    assert sorted(shown["tags"]) == ["a", "b"]


@pytest.mark.parametrize("visibility", ["public", "private", "shared", "community"])
def test_visibilities(client: Client, visibility: str) -> None:
    assert client.show(client.create(visibility=visibility))["visibility"] == visibility


def test_ids_are_never_used_twice(client: Client) -> None:
    image_id = str(uuid.uuid4())
    client.create(id=image_id)
    assert client.post("/v2/images", {"id": image_id}).status == 409
    assert client.delete(f"/v2/images/{image_id}").status == 204
    assert client.post("/v2/images", {"id": image_id}).status == 409


def test_delete(client: Client, service: Service) -> None:
    image_id = client.active(b"data")
    assert image_id in service.files()
    assert client.delete(f"/v2/images/{image_id}").status == 204
    assert image_id not in service.files()
    for reply in (
        client.get(f"/v2/images/{image_id}"),
        client.download(image_id),
        client.upload(image_id, b"data"),
        client.delete(f"/v2/images/{image_id}"),
    ):
        assert reply.status == 404
    columns = "status, deleted, deleted_at IS NOT NULL"
    kept = service.rows(f"SELECT {columns} FROM images WHERE id = ?", image_id)  # noqa: S608
    assert kept == [("deleted", 1, 1)]


def test_protected_image_stays(client: Client) -> None:
    image_id = client.create(protected=True)
    assert client.delete(f"/v2/images/{image_id}").status == 403
    assert client.show(image_id)["status"] == "queued"


@pytest.mark.parametrize("name", ["image", "images"])
def test_schemas(client: Client, name: str) -> None:
    schema = client.get(f"/v2/schemas/{name}").json()
    assert schema["name"] == name
    image = schema if name == "image" else schema["properties"]["images"]["items"]
    assert image["additionalProperties"] == {"type": "string"}
    assert set(client.show(client.create())) <= set(image["properties"])


# -- upload ---------------------------------------------------------------------------------------


def test_upload_fills_in_what_is_known_now(client: Client, service: Service) -> None:
    data = b"0123456789" * 1000
    image_id = client.active(data)
    shown = client.show(image_id)
    assert shown["status"] == "active"
    assert shown["size"] == shown["virtual_size"] == len(data)
    assert shown["checksum"] == hashlib.md5(data).hexdigest()
    assert shown["os_hash_algo"] == "sha512"
    assert shown["os_hash_value"] == hashlib.sha512(data).hexdigest()
    assert shown["stores"] == "local"
    [(url, metadata, status)] = service.rows(
        "SELECT value, meta_data, status FROM image_locations WHERE image_id = ?", image_id
    )
    assert url == f"file://{service.store}/{image_id}"
    assert (metadata, status) == ('{"store":"local"}', "active")
    assert (service.store / image_id).read_bytes() == data


def test_upload_in_chunks(client: Client) -> None:
    image_id = client.create()
    assert client.upload(image_id, iter([b"one", b"two", b"three"])).status == 204
    assert client.download(image_id).body == b"onetwothree"


def test_empty_image(client: Client) -> None:
    image_id = client.active(b"")
    shown = client.show(image_id)
    assert (shown["status"], shown["size"], shown["checksum"]) == ("active", 0, EMPTY_MD5)
    whole = client.download(image_id)
    assert (whole.status, whole.body, whole.headers["content-length"]) == (200, b"", "0")
    assert client.download(image_id, Range="bytes=0-0").status == 416


@pytest.mark.parametrize("declared", ["text/plain", "application/json", "application/octet"])
def test_upload_of_another_type(client: Client, declared: str) -> None:
    image_id = client.create()
    reply = client.upload(image_id, b"x", Content_Type=declared, Accept=JSON)
    assert reply.status == 415
    assert declared in reply.json()["message"]
    assert client.show(image_id)["status"] == "queued"


def test_upload_without_a_type(client: Client) -> None:
    image_id = client.create()
    assert client.request("PUT", f"/v2/images/{image_id}/file", b"x").status == 415


def test_announced_size_is_kept(client: Client) -> None:
    image_id = client.create()
    assert client.upload(image_id, iter([b"ten bytes!"]), x_openstack_image_size="10").status == 204


@pytest.mark.parametrize("size", ["9", "11", "abc", "-10", "1e1", ""])
def test_announced_size_is_wrong(client: Client, service: Service, size: str) -> None:
    image_id = client.create()
    for body in (b"ten bytes!", iter([b"ten", b" bytes!"])):
        reply = client.upload(image_id, body, x_openstack_image_size=size)
        assert reply.status == 400, reply
        assert image_id not in service.files()
        assert client.show(image_id)["status"] == "queued"
    assert client.upload(image_id, b"ten bytes!").status == 204


def test_size_mismatch_is_explained(client: Client) -> None:
    reply = client.upload(client.create(), b"ten bytes!", x_openstack_image_size="99", Accept=JSON)
    assert "Size mismatch: expected 99 bytes, got 10 bytes" in reply.json()["message"]


def test_a_size_of_0_is_none(client: Client) -> None:
    image_id = client.create()
    assert client.upload(image_id, b"ten bytes!", x_openstack_image_size="0").status == 204
    assert client.show(image_id)["size"] == 10


@pytest.mark.parametrize("slashes", ["//", "////"])
def test_an_endpoint_may_end_in_slashes(client: Client, slashes: str) -> None:
    image_id = client.create()
    assert client.get(f"{slashes}v2/images/{image_id}").status == 200
    assert client.put(f"{slashes}v2/images/{image_id}/file", b"x").status == 204
    assert client.get(slashes).status == 300


def test_upload_to_a_named_store(client: Client) -> None:
    image_id = client.create()
    assert client.upload(image_id, b"x", x_image_meta_store="elsewhere").status == 400
    assert client.upload(image_id, b"x", x_image_meta_store="local").status == 204


def test_second_upload_conflicts(client: Client) -> None:
    image_id = client.active(b"first")
    assert client.upload(image_id, b"second").status == 409
    assert client.download(image_id).body == b"first"


@pytest.mark.parametrize("lacking", ["disk_format", "container_format"])
def test_upload_needs_formats(client: Client, lacking: str) -> None:
    image_id = client.create(**{lacking: None})
    reply = client.upload(image_id, b"x", Accept=JSON)
    assert reply.status == 400
    assert f"{lacking} must be set prior to saving data" in reply.json()["message"]


def test_upload_to_an_unknown_image(client: Client) -> None:
    assert client.upload(NOWHERE, b"x").status == 404


def test_image_over_the_limit(tmp_path_factory: pytest.TempPathFactory) -> None:
    from tests.real.service import running

    options = {"limits": {"image_size": "1MiB"}}
    with running(tmp_path_factory.mktemp("limit"), options) as small:
        client, most = small.client, 1 << 20
        assert client.upload(client.create(), bytes(most)).status == 204
        image_id = client.create()
        assert client.upload(image_id, bytes(most + 1)).status == 413
        assert client.upload(image_id, iter([bytes(most), b"x"])).status == 413
        assert client.show(image_id)["status"] == "queued"
        assert image_id not in small.files()


# -- download -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ten(service: Service) -> str:
    """Return the id of an image of ten bytes."""
    return service.client.active(b"0123456789")


def test_download(client: Client, ten: str) -> None:
    reply = client.download(ten)
    assert (reply.status, reply.body) == (200, b"0123456789")
    assert reply.headers["content-type"] == "application/octet-stream"
    assert reply.headers["content-length"] == "10"
    assert reply.headers["content-md5"] == hashlib.md5(b"0123456789").hexdigest()


def test_download_of_nothing(client: Client) -> None:
    reply = client.download(client.create())
    assert (reply.status, reply.body) == (204, b"")
    assert client.download(NOWHERE).status == 404


@pytest.mark.parametrize(
    ("asked", "content", "told"),
    [
        ("bytes=0-4", b"01234", "0-4"),
        ("bytes=5-", b"56789", "5-9"),
        ("bytes=9-9", b"9", "9-9"),
        ("bytes=-3", b"789", "7-9"),
        ("bytes=-100", b"0123456789", "0-9"),
        ("bytes=0-100", b"0123456789", "0-9"),
        ("bytes=4-99999999999999999999999", b"456789", "4-9"),
        ("BYTES=1-2", b"12", "1-2"),
    ],
)
def test_ranges(client: Client, ten: str, asked: str, content: bytes, told: str) -> None:
    reply = client.download(ten, Range=asked)
    assert (reply.status, reply.body) == (206, content)
    assert reply.headers["content-range"] == f"bytes {told}/10"
    assert reply.headers["content-length"] == str(len(content))
    assert reply.headers["content-md5"] == hashlib.md5(b"0123456789").hexdigest()


def test_range_in_a_content_range_header(client: Client, ten: str) -> None:
    reply = client.download(ten, Content_Range="bytes 0-4/*")
    assert (reply.status, reply.body) == (206, b"01234")


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        ("bytes=10-", 416),
        ("bytes=10-20", 416),
        ("bytes=99999999999999999999999-", 416),
        ("bytes=5-4", 416),
        ("bytes=-0", 416),
        ("bytes=-", 416),
        ("bytes=--5", 416),
        ("bytes=+1-3", 416),
        ("bytes=abc", 416),
        ("bytes 0-4", 416),
        ("items=0-4", 416),
        ("", 416),
        ("bytes=0-1,3-4", 400),
    ],
)
def test_bad_ranges(client: Client, ten: str, asked: str, status: int) -> None:
    reply = client.download(ten, Range=asked, Accept=JSON)
    assert reply.status == status
    assert reply.json()["message"]
    assert b"0123456789" not in reply.body


def test_lost_object_is_no_content(client: Client, service: Service) -> None:
    image_id = client.active(b"lost")
    (service.store / image_id).rename(service.directory / "elsewhere")
    try:
        assert client.download(image_id).status == 204
    finally:
        (service.directory / "elsewhere").rename(service.store / image_id)


# -- connections ----------------------------------------------------------------------------------


def test_one_connection_serves_many_requests(client: Client) -> None:
    image_id = client.create()
    path = f"/v2/images/{image_id}"
    octets = "Host: localhost\r\nContent-Type: application/octet-stream\r\n"
    with client.connect() as connection:
        for method, more, body, status in (
            ("GET", "Host: localhost\r\n", b"", 200),
            ("PUT", f"{octets}Content-Length: 3\r\n", b"abc", 204),
            ("GET", "Host: localhost\r\n", b"", 200),
            ("DELETE", "Host: localhost\r\n", b"", 204),
            ("GET", "Host: localhost\r\n", b"", 404),
        ):
            target = f"{path}/file" if method == "PUT" else path
            connection.sendall(f"{method} {target} HTTP/1.1\r\n{more}\r\n".encode() + body)
            assert receive(connection).status == status


def test_refused_upload_that_waits_costs_nothing(client: Client, ten: str) -> None:
    with client.connect() as connection:
        connection.sendall(
            f"PUT /v2/images/{ten}/file HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n"
            "Content-Type: application/octet-stream\r\nContent-Length: 1000000000\r\n\r\n".encode()
        )
        assert connection.recv(12) == b"HTTP/1.1 409"
