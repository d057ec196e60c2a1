"""The step `gzip`: JSON is compressed for clients that accept it, and nothing else is."""

import gzip
import json
from collections.abc import Iterator

import attrs
import pytest
import requests

from imgservice.config.sections import Config
from tests.real.client import Client, Reply
from tests.real.roles import PATCH, replace
from tests.real.service import Service, running

STEPS = [*Config().pipeline]
GZIP = "gzip, deflate"
ORIGIN = "https://page"
LARGE = {f"property_{number}": "value " * 20 for number in range(12)}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    options = {"pipeline": ["gzip", *STEPS], "cors": {"allowed_origins": [ORIGIN]}}
    with running(tmp_path_factory.mktemp("gzip"), options) as service:
        yield service


@pytest.fixture(scope="module")
def client(service: Service) -> Client:
    return service.client


@pytest.fixture(scope="module")
def image_id(client: Client) -> str:
    return client.active(b"data" * 1000, **LARGE)


def compressed(reply: Reply) -> bool:
    """Tell whether it is, and see that what a client needs to know is there."""
    assert reply.headers["vary"] == "Accept-Encoding"
    assert int(reply.headers["content-length"]) == len(reply.body)
    return reply.headers.get("content-encoding") == "gzip"


def change(client: Client, image_id: str, name: str, tag: str) -> Reply:
    headers = {"Content-Type": PATCH, "If-Match": tag, "Accept-Encoding": GZIP}
    body = json.dumps([replace("name", name)]).encode()
    return client.request("PATCH", f"/v2/images/{image_id}", body, headers)


@pytest.mark.parametrize(
    "path", ["/v2/images", "/v2/images?limit=1", "/v2/schemas/image", "/versions", "/", "/v9"]
)
def test_documents_are_the_same_when_unpacked(client: Client, image_id: str, path: str) -> None:
    plain, packed = client.get(path), client.get(path, Accept_Encoding=GZIP)
    assert (compressed(plain), compressed(packed)) == (False, True)
    assert gzip.decompress(packed.body) == plain.body
    assert len(packed.body) < len(plain.body)
    assert (plain.status, plain.headers["content-type"]) == (
        packed.status,
        packed.headers["content-type"],
    )


@pytest.mark.parametrize(
    ("accepted", "expected"),
    [
        ("gzip", True),
        ("GZIP", True),
        ("*", True),
        ("br;q=1, *;q=0.1", True),
        ("gzip;q=0.5, identity;q=0.1", True),
        ("gzip;q=0.001", True),
        ("gzip;q=0", False),
        ("gzip;q=0.0, *", False),
        ("identity, gzip;q=0.5", False),
        ("*;q=0", False),
        ("identity", False),
        ("br, deflate", False),
        ("gzipped", False),
        ("gzip;q=much", False),
        ("", False),
        (";;,=,", False),
    ],
)
def test_the_client_decides(client: Client, accepted: str, expected: bool) -> None:
    assert compressed(client.get("/v2/schemas/image", Accept_Encoding=accepted)) is expected


def test_data_of_images_is_never_compressed(client: Client, image_id: str) -> None:
    path = f"/v2/images/{image_id}/file"
    plain = client.get(path)
    for reply in (client.get(path, Accept_Encoding=GZIP), client.get(path, Accept_Encoding="*")):
        assert (reply.status, reply.body) == (200, b"data" * 1000)
        assert reply.headers["etag"] == plain.headers["etag"]
        assert not {"vary", "content-encoding"} & reply.headers.keys()
    part = client.get(path, Accept_Encoding=GZIP, Range="bytes=4-7")
    assert (part.status, part.body) == (206, b"data")
    known = client.get(path, Accept_Encoding=GZIP, If_None_Match=plain.headers["etag"])
    assert (known.status, known.headers.get("vary")) == (304, None)


def test_small_documents_and_errors_stay_as_they_are(client: Client) -> None:
    small = client.get("/v2/info/import", Accept_Encoding=GZIP)
    assert not compressed(small)
    assert small.json()
    error = client.get(f"/v2/images/{'x' * 2000}", Accept_Encoding=GZIP)
    assert (error.status, error.headers.get("content-encoding")) == (404, None)


def test_each_form_has_its_tag(client: Client, image_id: str) -> None:
    path = f"/v2/images/{image_id}"
    plain, packed = client.get(path), client.get(path, Accept_Encoding=GZIP)
    assert packed.headers["etag"] == plain.headers["etag"][:-1] + '-gzip"'
    for form in (plain, packed):
        for accepted in (GZIP, "identity"):
            known = client.get(path, Accept_Encoding=accepted, If_None_Match=form.headers["etag"])
            assert (known.status, known.body) == (304, b"")
            assert known.headers["vary"] == "Accept-Encoding"
            assert not {"content-type", "content-encoding"} & known.headers.keys()
        confirmed = client.get(path, Accept_Encoding=GZIP, If_None_Match=form.headers["etag"])
        assert confirmed.headers["etag"] == form.headers["etag"]
    both = f"{plain.headers['etag']}, W/{packed.headers['etag']}"
    assert client.get(path, If_None_Match=both).status == 304
    assert client.get(path, If_None_Match='"other-gzip"').status == 200


def test_what_was_seen_compressed_can_be_changed(client: Client) -> None:
    image_id = client.create(**LARGE)
    path = f"/v2/images/{image_id}"
    seen = client.get(path, Accept_Encoding=GZIP).headers["etag"]
    changed = change(client, image_id, "one", seen)
    assert (changed.status, compressed(changed)) == (200, True)
    assert change(client, image_id, "two", seen).status == 412
    assert change(client, image_id, "two", changed.headers["etag"]).status == 200
    assert client.delete(path, If_Match=changed.headers["etag"]).status == 412
    current = client.get(path, Accept_Encoding=GZIP).headers["etag"]
    assert client.delete(path, If_Match=current).status == 204


def test_head_has_the_headers_of_get(client: Client, image_id: str) -> None:
    path, fields = f"/v2/images/{image_id}", {"Accept-Encoding": GZIP}
    shown, told = (client.request(method, path, headers=fields) for method in ("GET", "HEAD"))
    varying = ("date", "x-openstack-request-id")
    assert told.body == b""
    assert {**shown.headers, **dict.fromkeys(varying)} == {
        **told.headers,
        **dict.fromkeys(varying),
    }


def test_a_long_list_is_compressed_beside_the_others(client: Client) -> None:
    """In a thread; the service answers others meanwhile, which is not seen here."""
    for _ in range(20):
        client.create(**LARGE)
    plain = client.get("/v2/images?limit=1000")
    assert len(plain.body) > 40_000
    packed = client.get("/v2/images?limit=1000", Accept_Encoding=GZIP)
    assert compressed(packed)
    assert gzip.decompress(packed.body) == plain.body


def test_browsers_are_told_of_both(service: Service) -> None:
    client = attrs.evolve(service.client, headers={"Origin": ORIGIN, "Accept-Encoding": GZIP})
    with client.connect() as connection:
        connection.sendall(
            f"GET /v2/schemas/image HTTP/1.1\r\nHost: {client.host}:{client.port}\r\n"
            f"Origin: {ORIGIN}\r\nAccept-Encoding: {GZIP}\r\nConnection: close\r\n\r\n".encode()
        )
        head = b""
        while b"\r\n\r\n" not in head:
            head += connection.recv(4096)
    lines = head.partition(b"\r\n\r\n")[0].lower().split(b"\r\n")
    named = {line.partition(b": ")[2] for line in lines if line.startswith(b"vary:")}
    assert named == {b"origin", b"accept-encoding"}


def test_a_client_that_unpacks_by_itself(client: Client, image_id: str) -> None:
    answer = requests.get(f"{client.url}/v2/images/{image_id}", timeout=60)
    assert answer.headers["Content-Encoding"] == "gzip"
    assert answer.json() == client.show(image_id)
