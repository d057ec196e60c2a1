"""Requests that take their time."""

import json
import socket

from tests.real.client import Client


def begin(client: Client, method: str, path: str, *fields: str, body: bytes = b"") -> socket.socket:
    """Send the head of a request and the beginning of its body; the caller closes."""
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost"]
    lines += [f"{name}: {value}" for name, value in client.headers.items()]
    connection = client.connect()
    connection.sendall("\r\n".join([*lines, *fields, "", ""]).encode() + body)
    return connection


def begin_upload(client: Client, image_id: str, length: int, body: bytes) -> socket.socket:
    """Send the first bytes of an image's data."""
    fields = (f"Content-Length: {length}", "Content-Type: application/octet-stream")
    return begin(client, "PUT", f"/v2/images/{image_id}/file", *fields, body=body)


def begin_location(client: Client, image_id: str, url: str) -> socket.socket:
    """Name a location, whose data takes long to be read."""
    body = json.dumps({"url": url}).encode()
    fields = (f"Content-Length: {len(body)}",)
    return begin(client, "POST", f"/v2/images/{image_id}/locations", *fields, body=body)
