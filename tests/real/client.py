"""A small HTTP client that hides nothing: what was sent and what came is there to look at."""

import json
import socket
import ssl
from collections.abc import Iterable, Mapping
from contextlib import closing, suppress
from http.client import HTTPConnection, HTTPResponse, HTTPSConnection
from typing import Any

import attrs

TIMEOUT = 60.0
OCTETS = {"Content-Type": "application/octet-stream"}


@attrs.frozen
class Reply:
    status: int
    reason: str
    headers: Mapping[str, str]
    """With names in lower case."""
    body: bytes = attrs.field(repr=lambda body: repr(body[:200]))

    def json(self) -> Any:
        return json.loads(self.body)


@attrs.frozen
class Client:
    """Speaks to one server, with a new connection for every request."""

    host: str
    port: int
    headers: Mapping[str, str] = attrs.field(factory=dict)
    """Sent with every request."""
    tls: ssl.SSLContext | None = None

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://{self.host}:{self.port}"

    def request(
        self,
        method: str,
        path: str,
        body: bytes | Iterable[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """Send one request; a body that is not `bytes` goes out in chunks."""
        with closing(self._connection()) as connection:
            with suppress(BrokenPipeError, ConnectionResetError):  # answered before all was sent
                connection.request(method, path, body, {**self.headers, **(headers or {})})
            return read_reply(connection.getresponse())

    def get(self, path: str, **headers: str) -> Reply:
        return self.request("GET", path, headers=_fields(headers))

    def delete(self, path: str, **headers: str) -> Reply:
        return self.request("DELETE", path, headers=_fields(headers))

    def post(self, path: str, document: Any, **headers: str) -> Reply:
        fields = {"Content-Type": "application/json", **_fields(headers)}
        return self.request("POST", path, json.dumps(document).encode(), fields)

    def put(self, path: str, body: bytes | Iterable[bytes], **headers: str) -> Reply:
        return self.request("PUT", path, body, {**OCTETS, **_fields(headers)})

    # -- images -----------------------------------------------------------------------------------

    def create(self, **fields: Any) -> str:
        """Create an image, raw and bare unless told otherwise, and return its id."""
        document = {"disk_format": "raw", "container_format": "bare", **fields}
        reply = self.post("/v2/images", document)
        assert reply.status == 201, reply
        return str(reply.json()["id"])

    def upload(self, image_id: str, data: bytes | Iterable[bytes], **headers: str) -> Reply:
        return self.put(f"/v2/images/{image_id}/file", data, **headers)

    def download(self, image_id: str, **headers: str) -> Reply:
        return self.get(f"/v2/images/{image_id}/file", **headers)

    def show(self, image_id: str) -> Any:
        reply = self.get(f"/v2/images/{image_id}")
        assert reply.status == 200, reply
        return reply.json()

    def active(self, data: bytes, **fields: Any) -> str:
        """Create an image with data and return its id."""
        image_id = self.create(**fields)
        reply = self.upload(image_id, data)
        assert reply.status == 204, reply
        return image_id

    # -- bytes ------------------------------------------------------------------------------------

    def connect(self) -> socket.socket:
        plain = socket.create_connection((self.host, self.port), TIMEOUT)
        return self.tls.wrap_socket(plain, server_hostname=self.host) if self.tls else plain

    def exchange(self, data: bytes) -> Reply:
        """Send these bytes, whatever they are, and read one answer."""
        with self.connect() as connection:
            with suppress(BrokenPipeError, ConnectionResetError):
                connection.sendall(data)
            return receive(connection)

    def _connection(self) -> HTTPConnection:
        if self.tls is not None:
            return HTTPSConnection(self.host, self.port, timeout=TIMEOUT, context=self.tls)
        return HTTPConnection(self.host, self.port, timeout=TIMEOUT)


def receive(connection: socket.socket) -> Reply:
    """Read one answer from a connection that may have more to say."""
    with closing(HTTPResponse(connection)) as response:
        response.begin()
        return read_reply(response)


def read_reply(response: HTTPResponse) -> Reply:
    headers = {name.lower(): value for name, value in response.getheaders()}
    return Reply(response.status, response.reason, headers, response.read())


def _fields(headers: Mapping[str, str]) -> dict[str, str]:
    """`_` in keyword names stands for `-`."""
    return {name.replace("_", "-"): value for name, value in headers.items()}
