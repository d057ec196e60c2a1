"""Work that begins on one node, and is stopped or cleaned up by another."""

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from imgservice.domain.job import LEASE_TIME
from tests.real.service import Service, wait_until
from tests.real.streams import upload_head

BLOCK = bytes(1 << 20)
LENGTH = 200 << 20


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[tuple[Service, Service]]:
    """Two nodes with one database and one store."""
    made = []
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        made.append(
            Service(
                tmp_path / name,
                {
                    "database": {"url": f"sqlite:///{tmp_path / 'images.db'}"},
                    "stores": {"local": {"type": "file", "path": str(tmp_path / "images")}},
                },
            )
        )
    for node in made:
        node.database, node.store = tmp_path / "images.db", tmp_path / "images"
    try:
        one, other = (node.start() for node in made)
        yield one, other
        other.stop()
    finally:
        for node in made:
            node.end()


def begin_upload(node: Service, image_id: str) -> socket.socket:
    """Send the beginning of an upload; return the connection when the node works on it."""
    connection = node.client.connect()
    connection.sendall(upload_head(image_id, f"Content-Length: {LENGTH}") + b"x" * 100_000)
    query = "SELECT kind FROM imgsvc_leases WHERE image_id = ?"
    wait_until(lambda: node.rows(query, image_id) == [("upload",)])
    return connection


def test_an_image_deleted_on_one_node_stops_its_upload_on_another(
    nodes: tuple[Service, Service],
) -> None:
    one, other = nodes
    image_id = other.client.create()
    with begin_upload(one, image_id) as upload:
        assert other.client.delete(f"/v2/images/{image_id}").status == 204
        assert one.rows("SELECT cancelled FROM imgsvc_leases") == [(1,)]
        deadline = time.monotonic() + 0.9 * LEASE_TIME
        while not one.is_at_rest():
            assert time.monotonic() < deadline, "the upload goes on"
            with suppress(ConnectionError):
                upload.sendall(BLOCK)
            time.sleep(0.3)
    assert one.files() == {}
    one.stop()


def test_a_node_cleans_up_behind_another_that_was_killed(nodes: tuple[Service, Service]) -> None:
    one, other = nodes
    image_ids = [one.client.create() for _ in range(8)]
    with ExitStack() as uploads:
        for image_id in image_ids:
            uploads.enter_context(begin_upload(one, image_id))
        one.kill()
    began = time.monotonic()
    wait_until(other.is_at_rest)
    assert time.monotonic() - began < 0.9 * LEASE_TIME, "it waited for the lease to expire"
    assert {other.client.show(image_id)["status"] for image_id in image_ids} == {"queued"}
    assert other.files() == {}
    for image_id in image_ids:
        assert other.client.upload(image_id, b"again").status == 204
