"""Whatever clients ask for, and however they read it, the service's memory stays within bounds."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

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
