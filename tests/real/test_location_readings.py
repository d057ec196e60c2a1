"""Reading data from a location is work like an upload: limited, at a least rate, and for somebody.

The web server here drips: it sends twenty bytes a second.
"""

import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.origin import Origin, origin
from tests.real.client import Client, receive
from tests.real.service import Service, wait_until
from tests.real.streams import upload_head
from tests.real.test_locations import Roles, add, adding, change, roles_of, started

MOST = 3
SIZE = 1 << 20


@contextmanager
def dripping() -> Iterator[Origin]:
    with origin() as web:
        web.piece, web.pause = 1, 0.05
        web.put("/disk.raw", bytes(SIZE))
        yield web


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    limits = {"uploads": {"project": MOST, "total": 2 * MOST}}
    with started(tmp_path_factory.mktemp("readings"), limits=limits) as service:
        yield service


@pytest.fixture
def roles(service: Service) -> Roles:
    return roles_of(service)


def begin_reading(client: Client, url: str) -> socket.socket:
    """Ask for a location to be added to a new image, and wait for no answer."""
    image_id, connection = client.create(), client.connect()
    body = json.dumps({"url": url}).encode()
    head = [f"POST /v2/images/{image_id}/locations HTTP/1.1", "Host: localhost"]
    head += [f"{name}: {value}" for name, value in client.headers.items()]
    head += [f"Content-Length: {len(body)}", "", ""]
    connection.sendall("\r\n".join(head).encode() + body)
    return connection


def readings(service: Service) -> int:
    return len(service.rows("SELECT id FROM imgsvc_leases WHERE kind = 'location'"))


def is_over(service: Service) -> bool:
    saving = service.rows("SELECT id FROM images WHERE status = 'saving'")
    return readings(service) == 0 and not saving


def test_readings_and_uploads_of_a_project_are_counted_together(
    service: Service, roles: Roles
) -> None:
    with dripping() as web, ExitStack() as running:
        url = web.url("/disk.raw")
        for _ in range(MOST):
            running.enter_context(begin_reading(roles.member, url))
        wait_until(lambda: readings(service) == MOST)
        wait_until(lambda: len(web.asked) == 2 * MOST)  # for the size, and for the data
        refused = [
            add(roles.member, roles.member.create(), url),
            change(roles.member, roles.member.create(), adding(url)),
            roles.member.upload(roles.member.create(), b"data"),
        ]
        assert [reply.status for reply in refused] == [429, 429, 429]
        assert all("retry-after" in reply.headers for reply in refused)
        assert len(web.asked) == 2 * MOST
        assert roles.stranger.upload(roles.stranger.create(), b"data").status == 204
    wait_until(lambda: is_over(service))


def test_a_reading_ends_when_its_client_leaves(service: Service, roles: Roles) -> None:
    with dripping() as web:
        with begin_reading(roles.member, web.url("/disk.raw")):
            wait_until(lambda: readings(service) == 1)
            wait_until(lambda: web.sent > 0)
        wait_until(lambda: is_over(service))
        assert web.sent < SIZE // 2
    with origin() as web:
        web.put("/disk.raw", b"data")
        assert add(roles.member, roles.member.create(), web.url("/disk.raw")).status == 202


def test_a_reading_of_a_silent_server_ends_when_its_client_leaves(
    service: Service, roles: Roles
) -> None:
    """Nothing comes that could be noticed on the way."""
    with origin() as web:
        web.piece, web.pause = 10, 5.0
        web.put("/disk.raw", bytes(100))
        with begin_reading(roles.member, web.url("/disk.raw")):
            wait_until(lambda: web.sent > 0)
            wait_until(lambda: readings(service) == 1)
        wait_until(lambda: is_over(service))
        assert web.sent < 100


def test_a_server_that_drips_is_given_up(tmp_path: Path) -> None:
    slow = {"min_rate": 1000, "min_rate_time": 1}
    with dripping() as web, started(tmp_path, server=slow) as service:
        member = roles_of(service).member
        image_id = member.create()
        reply = add(member, image_id, web.url("/disk.raw"))
        assert reply.status == 503, reply
        assert web.sent < 10_000
        wait_until(lambda: is_over(service))
        with member.connect() as connection:  # nobody else is disturbed
            connection.sendall(
                upload_head(image_id, "Content-Length: 4", *_fields(member)) + b"data"
            )
            assert receive(connection).status == 204


def _fields(client: Client) -> list[str]:
    return [f"{name}: {value}" for name, value in client.headers.items()]
