"""Whatever clients ask for, and however they read it, the service's memory stays within bounds."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.real.client import Client, Reply
from tests.real.service import Service, running

KiB = 1 << 10
MiB = 1 << 20
PAGE = 256 * KiB
IMAGES = 100
LONG = 10 * 40 * KiB
"""Bytes that belong to each image."""


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service with 100 images of 400 KiB of properties each."""
    options = {"api": {"page_bytes": PAGE}, "transfer": {"memory": "8MiB"}}
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
    with closing(sqlite3.connect(database, timeout=30)) as connection:
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
    assert full.client.get("/v2/images?limit=1").status == 200
    rested = begin_peak(full)
    path, seen = "/v2/images?limit=1000", list[str]()
    while path:
        reply = full.client.get(path)
        assert reply.status == 200
        assert len(reply.body) < PAGE + LONG
        document = reply.json()
        seen += [image["id"] for image in document["images"]]
        path = document.get("next", "")
    assert len(seen) == len(set(seen)) == IMAGES
    assert peak_of(full) - rested < 20 * MiB


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
    with closing(sqlite3.connect(full.database, timeout=30)) as connection:
        change = "UPDATE image_properties SET value = ? WHERE image_id = ?"
        connection.execute(change, (long, image_id))
        connection.commit()
    assert client.show(image_id)["note"] == long
    renamed = {"op": "replace", "path": "/name", "value": "renamed"}
    assert patch(client, image_id, renamed).json()["note"] == long
    longer = {"op": "replace", "path": "/note", "value": long + "x"}
    assert patch(client, image_id, longer).status == 413
    assert client.get("/v2/images?limit=1").json()["images"][0]["note"] == long
