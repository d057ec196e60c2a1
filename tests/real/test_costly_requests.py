"""A request that is dear by its form alone keeps nobody else waiting."""

import socket
from contextlib import ExitStack

import pytest

from tests.real.client import OCTETS, Client
from tests.real.service import Service

LONGEST = 16_000
"""Bytes of a request line or a header line that are taken, with some to spare."""
AT_ONCE = 4
PATIENCE = 30.0
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
    connection = socket.create_connection((service.client.host, service.client.port), PATIENCE)
    connection.sendall(f"{line}\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    return connection


@pytest.mark.parametrize("kind", COSTLY)
def test_others_are_answered_meanwhile(service: Service, client: Client, kind: str) -> None:
    image_id = client.create(disk_format="raw", container_format="bare")
    assert client.request("PUT", f"/v2/images/{image_id}/file", b"data", OCTETS).status == 204
    with ExitStack() as stack:
        sent = [stack.enter_context(ask(service, COSTLY[kind], image_id)) for _ in range(AT_ONCE)]
        with socket.create_connection((client.host, client.port), PATIENCE) as other:
            other.sendall(f"GET /v2/images/{image_id} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            assert other.recv(100).startswith(b"HTTP/1.1 200 ")
        for one in sent:
            assert one.recv(100).startswith((b"HTTP/1.1 2", b"HTTP/1.1 4"))
