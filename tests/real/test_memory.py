"""Whatever clients ask for, and however they read it, the service's memory stays within bounds."""

import json
import os
import socket
import sqlite3
import ssl
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path

import attrs
import pytest

from tests.process.certificates import write_certificate
from tests.real.client import Client, Reply, receive
from tests.real.service import Service, running, wait_until
from tests.real.streams import upload_head

KiB = 1 << 10
MiB = 1 << 20
PAGE = 1 * MiB
ANSWERS = 8 * MiB
UPLOADS = 16 * MiB
IMAGES = 50
LONG = 10 * 40 * KiB
"""Bytes that belong to each image."""


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service with 50 images of 400 KiB of properties each."""
    options = {
        "api": {"page_bytes": PAGE},
        "server": {"answer_memory": ANSWERS},
        "transfer": {"memory": UPLOADS},
    }
    with running(tmp_path_factory.mktemp("full"), options) as service:
        for number in range(IMAGES):
            service.client.create(name=f"image {number}")
        _lengthen(service.database)
        yield service


def patch(client: Client, image_id: str, *operations: dict[str, str]) -> Reply:
    type_ = "application/openstack-images-v2.1-json-patch"
    body = json.dumps(operations).encode()
    return client.request("PATCH", f"/v2/images/{image_id}", body, {"Content-Type": type_})


def _lengthen(database: Path) -> None:
    with closing(sqlite3.connect(database, timeout=60)) as connection:
        for number in range(10):
            connection.execute(
                "INSERT INTO image_properties (image_id, name, value, created_at, deleted)"
                " SELECT id, ?, ?, created_at, 0 FROM images",
                (f"long_{number}", "x" * (LONG // 10)),
            )
        connection.commit()


def peak_of(service: Service) -> int:
    """Return how many bytes were resident at most since `begin_peak`."""
    return service.measure("VmHWM") * KiB


def begin_peak(service: Service) -> int:
    """Return how much is resident, and let the peak begin anew."""
    Path(f"/proc/{service.pid}/clear_refs").write_text("5")
    return service.measure("VmRSS") * KiB


def test_a_list_of_long_images_takes_no_more_memory_than_a_page(full: Service) -> None:
    there = len(walk(full))  # and the database's caches are full
    assert there >= IMAGES
    rested = begin_peak(full)
    seen = walk(full)
    assert len(seen) == len(set(seen)) == there
    assert peak_of(full) - rested < 20 * MiB


def walk(service: Service) -> list[str]:
    """Return the ids of all images, page by page."""
    path, seen = "/v2/images?limit=1000", list[str]()
    while path:
        reply = service.client.get(path)
        assert reply.status == 200
        assert len(reply.body) < PAGE + LONG
        document = reply.json()
        seen += [image["id"] for image in document["images"]]
        path = document.get("next", "")
    return seen


def test_lists_that_nobody_reads_do_not_pile_up(full: Service) -> None:
    """200 clients ask for long lists, some of them several times, and read nothing."""
    rested = begin_peak(full)
    request = b"GET /v2/images?limit=3 HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with ExitStack() as silent:
        for number in range(200):
            connection = silent.enter_context(socket.socket())
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * KiB)
            connection.connect(("127.0.0.1", full.port))
            connection.sendall(request * (1 + number % 4))
        wait_until(lambda: full.client.get("/v2/images?limit=3").status == 200)
        assert peak_of(full) - rested < 4 * ANSWERS


# -- uploads --------------------------------------------------------------------------------------


@pytest.mark.parametrize("stalls", [False, True], ids=["fast", "stalling"])
def test_many_uploads_share_their_memory(full: Service, stalls: bool) -> None:
    """All send as fast as they can; those that stall do so when much of it is on its way."""
    client, count, size = full.client, 50, 5 * MiB
    for image_id in [client.create() for _ in range(3)]:
        assert client.upload(image_id, bytes(size)).status == 204
    rested = begin_peak(full)
    piece = os.urandom(size)
    with ExitStack() as open_ones, ThreadPoolExecutor(count) as threads:
        uploads = [open_ones.enter_context(client.connect()) for _ in range(count)]
        for upload in uploads:
            upload.sendall(upload_head(client.create(), f"Content-Length: {size}"))
        middle = size // 2 if stalls else size
        list(threads.map(lambda one: one.sendall(piece[:middle]), uploads))
        if stalls:
            wait_until(lambda: full.client.get("/v2/images?limit=2").status == 200)
            list(threads.map(lambda one: one.sendall(piece[middle:]), uploads))
        assert [receive(one).status for one in uploads] == [204] * count
    growth = peak_of(full) - rested
    assert growth < 1.5 * UPLOADS, f"{growth >> 20} MiB"


# -- afterwards -----------------------------------------------------------------------------------


@pytest.fixture(params=[False, True], ids=["plain", "TLS"])
def empty(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Service]:
    """A service that nobody has used."""
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    write_certificate(certificate, key)
    tls = {"certificate": str(certificate), "key": str(key)} if request.param else None
    with running(tmp_path, {"server": {"tls": tls}}) as service:
        if tls is not None:
            context = ssl.create_default_context(cafile=certificate)
            service.client = attrs.evolve(service.client, tls=context)
        yield service


def test_memory_comes_back(empty: Service) -> None:
    """What uploads took that succeed, are refused, or are given up, and downloads that are."""
    client, piece = empty.client, os.urandom(4 * MiB)
    kept = client.active(piece * 4)
    works: list[Callable[[], object]] = [
        partial(store, client, piece),
        partial(store_in_chunks, client, piece),
        partial(be_refused, client, piece),
        partial(leave, client, piece),
        partial(read_a_little, client, kept),
    ]
    for work in works:
        work()
    rested = empty.measure("RssAnon")
    with ThreadPoolExecutor(32) as threads:
        list(threads.map(lambda work: work(), works * 40))
    wait_until(lambda: empty.measure("RssAnon") - rested < 15 * MiB // KiB, 60)


def store(client: Client, data: bytes) -> None:
    client.active(data)


def store_in_chunks(client: Client, data: bytes) -> None:
    """Upload data without telling its length."""
    image_id = client.create()
    assert client.upload(image_id, (data[at : at + MiB] for at in range(0, 4 * MiB, MiB)))


def be_refused(client: Client, data: bytes) -> None:
    assert client.upload(client.create(disk_format="qcow2"), data).status == 415


def leave(client: Client, data: bytes) -> None:
    with client.connect() as upload:
        upload.sendall(upload_head(client.create(), f"Content-Length: {2 * len(data)}") + data)


def read_a_little(client: Client, image_id: str) -> None:
    with client.connect() as download:
        download.sendall(
            f"GET /v2/images/{image_id}/file HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
        )
        assert download.recv(64 * KiB).startswith(b"HTTP/1.1 200")


# -- values ---------------------------------------------------------------------------------------


def test_values_that_are_too_long_are_refused(full: Service) -> None:
    client, long = full.client, "x" * 70_000
    created = client.post("/v2/images", {"name": "new", "description": long})
    image_id = client.create()
    refused = [created, patch(client, image_id, {"op": "add", "path": "/note", "value": long})]
    for reply, name in zip(refused, ("description", "note"), strict=True):
        assert reply.status == 413
        assert f"property '{name}' is 70000 bytes long; at most 65535".encode() in reply.body
    assert client.show(image_id).keys() & {"description", "note"} == set()


def test_values_that_are_too_long_but_there_stay_and_are_shown(full: Service) -> None:
    client, long, image_id = full.client, "ä" * 70_000, full.client.create(note="")
    with closing(sqlite3.connect(full.database, timeout=60)) as connection:
        change = "UPDATE image_properties SET value = ? WHERE image_id = ?"
        connection.execute(change, (long, image_id))
        connection.commit()
    assert client.show(image_id)["note"] == long
    renamed = {"op": "replace", "path": "/name", "value": "renamed"}
    assert patch(client, image_id, renamed).json()["note"] == long
    longer = {"op": "replace", "path": "/note", "value": long + "x"}
    assert patch(client, image_id, longer).status == 413
    assert client.get("/v2/images?limit=1").json()["images"][0]["note"] == long
