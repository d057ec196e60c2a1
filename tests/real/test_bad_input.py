"""Broken, hostile and odd requests: each gets a clear answer, and nothing changes."""

import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from tests.real.client import Client, receive
from tests.real.service import Service, wait_until

JSON = "application/json"
EMOJI = "\U0001f600"
UPLOAD = "Host: localhost\r\nContent-Type: application/octet-stream\r\n"


@pytest.fixture
def unchanged(service: Service) -> Iterator[Client]:
    """Give a client whose requests must leave the database and the store as they were."""
    wait_until(service.is_at_rest)  # a client that left before may still be cleaned up after
    before = service.everything()
    yield service.client
    wait_until(service.is_at_rest)
    assert service.everything() == before


@pytest.fixture
def queued(client: Client) -> str:
    return client.create()


def create(client: Client, body: bytes) -> Any:
    headers = {"Content-Type": JSON, "Accept": JSON}
    return client.request("POST", "/v2/images", body, headers)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"name": "x"',
        b'{"name": }',
        b"[]",
        b'"text"',
        b"1",
        b"null",
        b"\xff",
        b'{"name": "\xff"}',
        b"\xef\xbb\xbf{}",
        b'{"name": NaN}',
        b"{}{}",
        b"[" * 100_000,
        b'{"name": "a\\u0000b"}',
        b'{"p": "a\\u0000b"}',
        b'{"p\\u0000": "b"}',
        b'{"tags": ["\\u0000"]}',
        b'{"name": "\\ud800"}',
    ],
    ids=lambda body: repr(body[:24]),
)
def test_broken_documents(unchanged: Client, body: bytes) -> None:
    reply = create(unchanged, body)
    assert (reply.status, reply.json()["title"]) == (400, "Bad Request")


@pytest.mark.parametrize(
    "document",
    [
        {"name": EMOJI},
        {"property": f"a{EMOJI}"},
        {EMOJI: "value"},
        {"tags": [EMOJI]},
        {"property": 1},
        {"property": None},
        {"property": {}},
        {"property": True},
        {"p" * 256: "value"},
        {"name": "n" * 256},
        {"tags": ["t" * 256]},
        {"tags": "text"},
        {"tags": [1]},
        {"id": "abc"},
        {"id": 5},
        {"id": "00000000-0000-4000-8000-00000000000g"},
        {"id": "00000000-0000-4000-8000-000000000000\n"},
        {"min_disk": -1},
        {"min_ram": 2**31},
        {"min_ram": 2**80},
        {"min_ram": "5"},
        {"min_ram": 1.5},
        {"visibility": "secret"},
        {"protected": "yes"},
        {"os_hidden": 1},
        {"disk_format": "floppy"},
        {"container_format": "box"},
        {"owner": 5},
        {"owner": "o" * 256},
    ],
    ids=lambda document: str(document)[:32].encode("unicode_escape").decode(),
)
def test_values_out_of_their_range(unchanged: Client, document: dict[str, Any]) -> None:
    assert create(unchanged, json.dumps(document).encode()).status == 400


@pytest.mark.parametrize(
    "name",
    [
        "created_at", "updated_at", "status", "checksum", "size", "virtual_size", "direct_url",
        "self", "file", "schema", "os_hash_algo", "os_hash_value", "location", "deleted",
        "deleted_at", "locations", "stores", "os_glance_import_task", "os_glance_anything",
    ],
)  # fmt: skip
def test_names_that_clients_may_not_set(unchanged: Client, name: str) -> None:
    value = [] if name == "locations" else "x"  # values of another type are refused before
    reply = create(unchanged, json.dumps({name: value}).encode())
    assert reply.status == 403
    assert name in reply.json()["message"]


def test_locations_of_another_type_are_no_document_of_an_image(unchanged: Client) -> None:
    reply = create(unchanged, b'{"locations": "x"}')
    assert reply.status == 400  # as Glance answers: its schema comes before the reserved names
    assert "locations must be array" in reply.json()["message"]


@pytest.mark.parametrize(
    "document",
    [
        {f"property {number}": "x" for number in range(129)},
        {"tags": [f"tag {number}" for number in range(129)]},
    ],
    ids=["properties", "tags"],
)
def test_too_many(unchanged: Client, document: dict[str, Any]) -> None:
    reply = create(unchanged, json.dumps(document).encode())
    assert reply.status == 413
    assert "Attempted: 129, Maximum: 128" in reply.json()["message"]


@pytest.mark.parametrize("chunked", [False, True])
def test_document_over_the_limit(unchanged: Client, chunked: bool) -> None:
    body = json.dumps({"name": "n", "p": "x" * (1 << 20)}).encode()
    headers = {"Content-Type": JSON, "Accept": JSON}
    sent = iter([body[: 1 << 19], body[1 << 19 :]]) if chunked else body
    assert unchanged.request("POST", "/v2/images", sent, headers).status == 413


# -- paths and ids --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "image_id",
    [
        "x",
        "%20",
        "%00",
        "..",
        "%2e%2e",
        "..%2f..%2fetc%2fpasswd",
        "a%2fb",
        "%F0%9F%98%80",
        "'%20OR%201=1",
        "%25s",
        "a" * 5000,
        "00000000000040008000000000000000",
        "{00000000-0000-4000-8000-000000000000}",
    ],
    ids=lambda image_id: image_id[:40],
)
@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_odd_ids(unchanged: Client, method: str, image_id: str) -> None:
    assert unchanged.request(method, f"/v2/images/{image_id}").status == 404


@pytest.mark.parametrize("image_id", ["x", "..", "%00", "%2e%2e%2fx", "a%2fb"])
def test_upload_to_odd_ids(unchanged: Client, image_id: str) -> None:
    assert unchanged.upload(image_id, b"data").status == 404
    assert unchanged.download(image_id).status == 404


def test_path_that_is_not_text(unchanged: Client) -> None:
    for path in ("/v2/images/%ff", "/%ff", "/v2/%ff/x"):
        assert unchanged.get(path).status == 400


# -- framing --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "head",
    [
        "GET / HTTP/1.1\r\nno colon\r\n",
        "GET\r\n",
        "GET / HTTP/9.9\r\n",
        "PUT / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n",
        "PUT / HTTP/1.1\r\nHost: localhost\r\nContent-Length: ten\r\n",
        "PUT / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n",
        "PUT / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1, 2\r\n",
        f"PUT / HTTP/1.1\r\nHost: localhost\r\nContent-Length: {'9' * 4400}\r\n",
        "PUT / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "PUT / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip\r\n",
        "\x16\x03\x01\x02\r\n",
    ],
    ids=lambda head: repr(head[:60]),
)
def test_malformed_heads(unchanged: Client, head: str) -> None:
    assert unchanged.exchange(f"{head}\r\n".encode("latin-1")).status == 400


def test_oversized_heads(unchanged: Client) -> None:
    line = b"GET /v2/images?" + b"x" * 20_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n"
    assert unchanged.exchange(line).status == 414
    for fields in (
        b"X: " + b"x" * 20_000 + b"\r\n",
        b"".join(b"X-%d: y\r\n" % number for number in range(300)),
        b"".join(b"X-%d: %s\r\n" % (number, b"y" * 10_000) for number in range(7)),
    ):
        reply = unchanged.exchange(b"GET / HTTP/1.1\r\nHost: localhost\r\n" + fields + b"\r\n")
        assert reply.status == 431


def test_body_shorter_than_its_length(queued: str, service: Service, unchanged: Client) -> None:
    with unchanged.connect() as connection:
        head = f"PUT /v2/images/{queued}/file HTTP/1.1\r\n{UPLOAD}Content-Length: 100\r\n\r\n"
        connection.sendall(head.encode() + b"only this")
        # Else the upload may begin after all that we look at.
        wait_until(lambda: _status(service, queued) == "saving")
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(1 << 16)[:12] in (b"", b"HTTP/1.1 400")
    _settled(service, queued)


def test_body_longer_than_its_length(service: Service, client: Client) -> None:
    image_id = client.create()
    with client.connect() as connection:
        head = f"PUT /v2/images/{image_id}/file HTTP/1.1\r\n{UPLOAD}Content-Length: 4\r\n\r\n"
        connection.sendall(head.encode() + b"data and more than was said\r\n\r\n")
        assert receive(connection).status == 204
        # What follows is the next request, and none that makes sense.
        assert connection.recv(1 << 16)[:12] in (b"", b"HTTP/1.1 400")
    assert client.download(image_id).body == b"data"


@pytest.mark.parametrize(
    "body",
    [
        b"zz\r\ndata\r\n0\r\n\r\n",
        b"-4\r\ndata\r\n0\r\n\r\n",
        b"4\r\ndataXX",
        b"4\r\ndata\r\nzz\r\n",
    ],
)
def test_malformed_chunks(queued: str, service: Service, unchanged: Client, body: bytes) -> None:
    head = f"PUT /v2/images/{queued}/file HTTP/1.1\r\n{UPLOAD}Transfer-Encoding: chunked\r\n\r\n"
    assert unchanged.exchange(head.encode() + body).status == 400
    _settled(service, queued)


def test_chunked_body_that_breaks_off(queued: str, service: Service, unchanged: Client) -> None:
    with unchanged.connect() as connection:
        head = f"PUT /v2/images/{queued}/file HTTP/1.1\r\n{UPLOAD}Transfer-Encoding: chunked\r\n"
        connection.sendall(head.encode() + b"\r\n4\r\ndata\r\n")
        wait_until(lambda: _status(service, queued) == "saving")
    _settled(service, queued)


def _status(service: Service, image_id: str) -> str:
    [(status,)] = service.rows("SELECT status FROM images WHERE id = ?", image_id)
    return str(status)


def _settled(service: Service, image_id: str) -> None:
    """Wait until a failed upload is cleaned up."""
    wait_until(lambda: _status(service, image_id) == "queued")
    wait_until(lambda: service.rows("SELECT * FROM imgsvc_leases") == [])
    wait_until(lambda: not any(image_id in name for name in service.files()))


HUGE = [2**31, 2**32, 2**63 - 1, 2**63, 2**64 - 1, 2**64, 10**19 - 1, 10**30, -(2**63) - 1]


@pytest.mark.parametrize(
    "number", [*map(str, HUGE), "1e400", "NaN", "9" * 5000], ids=lambda number: number[:20]
)
def test_numbers_that_no_column_holds(queued: str, unchanged: Client, number: str) -> None:
    """Wherever a number may stand, one that is too large is the client's mistake."""
    for name in ("min_disk", "min_ram"):
        assert create(unchanged, f'{{"{name}": {number}}}'.encode()).status == 400
        body = f'[{{"op": "replace", "path": "/{name}", "value": {number}}}]'.encode()
        media = {"Content-Type": "application/openstack-images-v2.1-json-patch"}
        assert unchanged.request("PATCH", f"/v2/images/{queued}", body, media).status == 400
    for name in ("size_min", "size_max", "size", "virtual_size", "min_disk", "min_ram", "limit"):
        reply = unchanged.get(f"/v2/images?{name}={number}")
        assert reply.status in (200, 400, 414), (name, reply)
    headers = ["X-OpenStack-Image-Size", "Content-Length"]
    for header in headers[: 1 if number in map(str, HUGE[:2]) else 2]:  # such data may come
        reply = unchanged.exchange(
            f"PUT /v2/images/{queued}/file HTTP/1.1\r\nHost: localhost\r\n{header}: {number}\r\n"
            "Content-Type: application/octet-stream\r\n\r\n".encode()
        )
        assert reply.status in (400, 413), (header, reply)
