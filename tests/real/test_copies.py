"""An image whose data lies in several stores."""

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.real.service import Service, running


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    stores = {
        name: {"type": "file", "path": str(tmp_path / folder), "weight": weight}
        for name, folder, weight in (("local", "images", 0), ("near", "near", 5))
    }
    with running(tmp_path, {"stores": stores}) as service:
        yield service


def copied(service: Service, data: bytes) -> str:
    """Put an image into both stores, as a copy of it by another node would."""
    image_id = service.client.active(data)
    near = service.directory / "near" / image_id
    shutil.copy(service.store / image_id, near)
    with closing(sqlite3.connect(service.database)) as database, database:
        database.execute(
            "INSERT INTO image_locations"
            " (image_id, value, meta_data, status, created_at, deleted)"
            " VALUES (?, ?, ?, 'active', '2026-01-01 00:00:00.000000', 0)",
            (image_id, near.as_uri(), '{"store": "near"}'),
        )
    return image_id


def test_the_copy_of_most_weight_is_sent(service: Service) -> None:
    image_id = copied(service, b"data")
    (service.directory / "near" / image_id).write_bytes(b"near")
    assert service.client.download(image_id).body == b"near"
    assert service.client.show(image_id)["stores"] == "local,near"


def test_a_copy_that_is_missing_leaves_the_other(service: Service) -> None:
    image_id = copied(service, b"data")
    (service.directory / "near" / image_id).unlink()
    assert service.client.download(image_id).body == b"data"
    (service.store / image_id).unlink()
    assert service.client.download(image_id).status == 204
    assert service.client.delete(f"/v2/images/{image_id}").status == 204


def test_deleting_removes_all_copies(service: Service) -> None:
    image_id = copied(service, b"data")
    assert service.client.delete(f"/v2/images/{image_id}").status == 204
    assert not list(service.directory.glob(f"*/{image_id}"))
