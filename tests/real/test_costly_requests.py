"""A request that is dear by its form alone keeps nobody else waiting."""

import json
import socket
from contextlib import ExitStack

import pytest

from tests.real.client import OCTETS, Client, Reply
from tests.real.service import Service

LONGEST = 16_000
"""Bytes of a request line or a header line that are taken, with some to spare."""
AT_ONCE = 4
TIMEOUT = 60.0
"""Seconds: what grows with the square or the cube of these lengths takes minutes."""

COSTLY = {
    "in": "GET /v2/images?name=in:" + "%20" * (LONGEST // 3) + "%22",
    "in, with plus signs": "GET /v2/images?name=in:" + "+" * LONGEST + "%22",
    "in, quoted": "GET /v2/images?name=in:%22" + "%5C%22" * (LONGEST // 6),
    "range": "GET /v2/images/{id}/file HTTP/1.1\r\nRange: bytes=" + " " * LONGEST + "x",
    "tags": 'GET /v2/images/{id} HTTP/1.1\r\nIf-None-Match: "a"' + " ," * (LONGEST // 2) + "x",
    "accept": "GET /v2/nothing HTTP/1.1\r\nAccept: " + 'a/b;q="' * (LONGEST // 7),
}  # fmt: skip


def ask(service: Service, start: str, image_id: str) -> socket.socket:
    """Send a request and leave the answer for later."""
    text = start.replace("{id}", image_id)
    line = text if " HTTP/1.1" in text else f"{text} HTTP/1.1"
    connection = socket.create_connection((service.client.host, service.client.port), TIMEOUT)
    connection.sendall(f"{line}\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    return connection


@pytest.mark.parametrize("kind", COSTLY)
def test_others_are_answered_meanwhile(service: Service, client: Client, kind: str) -> None:
    image_id = client.create(disk_format="raw", container_format="bare")
    assert client.request("PUT", f"/v2/images/{image_id}/file", b"data", OCTETS).status == 204
    with ExitStack() as stack:
        sent = [stack.enter_context(ask(service, COSTLY[kind], image_id)) for _ in range(AT_ONCE)]
        with socket.create_connection((client.host, client.port), TIMEOUT) as other:
            other.sendall(f"GET /v2/images/{image_id} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            assert other.recv(100).startswith(b"HTTP/1.1 200 ")
        for one in sent:
            assert one.recv(100).startswith((b"HTTP/1.1 2", b"HTTP/1.1 4"))


# -- what is asked for by the thousand ------------------------------------------------------------

JSON = {"Content-Type": "application/json", "Accept": "application/json"}
PATCH = {
    "Content-Type": "application/openstack-images-v2.1-json-patch",
    "Accept": "application/json",
}
DEEP = "[" * 1000 + "]" * 1000
SHALLOW = "[" * 90 + "]" * 90
"""As much as is read at all."""


def test_a_patch_has_a_number_of_operations(client: Client) -> None:
    path = f"/v2/images/{client.create()}"

    def changed(count: int) -> Reply:
        step = {"op": "add", "path": "/a", "value": "v"}
        steps = [{**step, "path": f"/p{number % 128}"} for number in range(count)]
        return client.request("PATCH", path, json.dumps(steps).encode(), PATCH)

    before = client.get(path).json()
    for count in (1001, 15_000):
        refused = changed(count)
        assert refused.status == 413
        assert f"operations. Attempted: {count}, Maximum: 1000" in refused.json()["message"]
        assert client.get(path).json() == before
    assert changed(1000).status == 200


@pytest.mark.parametrize(
    "query",
    [
        "&".join(["sort_key=name"] * 1000),
        "sort=" + ",".join(["name", "id:asc"] * 900),
        "&".join(["sort_key=name&sort_dir=asc"] * 500),
    ],
)
def test_sort_keys_that_are_there_already(client: Client, query: str) -> None:
    assert client.get(f"/v2/images?{query}").status == 200


@pytest.mark.parametrize(
    "query",
    [
        "&".join(f"p{number}=x" for number in range(1000)),
        "&".join(f"tag={number}" for number in range(1000)),
        "id=in:" + ",".join("a" for _ in range(1001)),
    ],
)
def test_more_filters_than_an_image_has_properties(client: Client, query: str) -> None:
    reply = client.get(f"/v2/images?{query}", accept="application/json")
    assert reply.status == 400
    assert "At most 1" in reply.json()["message"]


@pytest.mark.parametrize("field", ["name", "tags", "visibility", "id", "x", "min_disk", "owner"])
def test_deep_json_in_a_new_image(client: Client, field: str) -> None:
    objects = '{"a":' * 1000 + "1" + "}" * 1000
    for value in (DEEP, f"[{DEEP}]", objects, "[" * 98 + "]" * 98):
        body = f'{{"{field}": {value}}}'.encode()
        assert client.request("POST", "/v2/images", body, JSON).status == 400


@pytest.mark.parametrize("member", ["op", "path", "value", "replace"])
@pytest.mark.parametrize("path", ["/x", "/tags", "/locations/-", "/locations"])
@pytest.mark.parametrize("value", [DEEP, SHALLOW], ids=["deep", "shallow"])
def test_deep_json_in_a_patch(client: Client, member: str, path: str, value: str) -> None:
    step = {"op": '"replace"', "path": f'"{path}"', "value": '"v"', member: value}
    body = ",".join(f'"{name}": {text}' for name, text in step.items())
    reply = client.request(
        "PATCH", f"/v2/images/{client.create()}", f"[{{{body}}}]".encode(), PATCH
    )
    assert reply.status in (400, 403, 409)


@pytest.mark.parametrize(
    ("noun", "body"),
    [
        ("members", '{"member": %s}'),
        ("locations", '{"url": %s}'),
        ("locations", '{"url": "http://a", "metadata": %s}'),
        ("locations", '{"url": "http://a", "metadata": {"a": %s}}'),
        ("locations", '{"url": "http://a", "validation_data": {"a": %s}}'),
    ],
)
def test_deep_json_in_other_documents(client: Client, noun: str, body: str) -> None:
    path = f"/v2/images/{client.create()}/{noun}"
    assert client.request("POST", path, (body % DEEP).encode(), JSON).status in (400, 403)
