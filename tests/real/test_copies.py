"""An image whose data lies in several stores."""

import os
import random
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from glanceclient.exc import HTTPForbidden

from tests.real.client import Reply
from tests.real.service import Service, running
from tests.real.test_clients import glance


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


def preferring(service: Service, image_id: str, stores: str, **headers: str) -> Reply:
    return service.client.get(f"/v2/images/{image_id}/file?prefer={stores}", **headers)


def test_a_store_can_be_preferred(service: Service) -> None:
    image_id = copied(service, b"data")
    (service.directory / "near" / image_id).write_bytes(b"near")
    for stores, data in {
        "local": b"data",
        "near": b"near",
        "local,near": b"data",
        "near,local": b"near",
        "%20local%20,": b"data",
        "": b"near",
        ",": b"near",
        "near&prefer=local": b"data",
    }.items():
        assert preferring(service, image_id, stores).body == data, stores
    part = preferring(service, image_id, "local", Range="bytes=0-1")
    assert (part.status, part.body) == (206, b"da")


def test_a_preferred_store_without_the_image_leaves_the_others(service: Service) -> None:
    image_id = service.client.active(b"data")
    assert preferring(service, image_id, "near").body == b"data"
    both = copied(service, b"data")
    (service.store / both).unlink()
    assert preferring(service, both, "local").body == b"data"
    assert service.client.delete(f"/v2/images/{both}").status == 204


def test_a_preferred_store_must_be_known(service: Service) -> None:
    for image_id in (service.client.active(b"data"), service.client.create()):
        for stores in ("third", "local,third", "local&prefer=third"):
            reply = preferring(service, image_id, stores)
            assert (reply.status, b"third" in reply.body) == (400, True)
    assert preferring(service, "no-such-image", "third").status == 404


def test_a_copy_that_is_missing_leaves_the_other(service: Service) -> None:
    image_id = copied(service, b"data")
    (service.directory / "near" / image_id).unlink()
    assert service.client.download(image_id).body == b"data"
    (service.store / image_id).unlink()
    assert service.client.download(image_id).status == 204
    assert service.client.delete(f"/v2/images/{image_id}").status == 204


@pytest.mark.parametrize("start", [0, 3 << 20])
def test_a_copy_that_is_too_short_is_continued_from_the_other(service: Service, start: int) -> None:
    """The client sees no break, and the operator is told."""
    data = random.Random(1).randbytes(5 << 20)
    image_id = copied(service, data)
    os.truncate(service.directory / "near" / image_id, (4 << 20) + 1)
    reply = service.client.get(f"/v2/images/{image_id}/file", Range=f"bytes={start}-")
    assert (reply.status, reply.body) == (206, data[start:])
    assert f"{image_id}: its copy in store near broke at byte 4194305" in service.log.read_text()


def test_deleting_removes_all_copies(service: Service) -> None:
    image_id = copied(service, b"data")
    assert service.client.delete(f"/v2/images/{image_id}").status == 204
    assert not list(service.directory.glob(f"*/{image_id}"))


# -- removing a copy ------------------------------------------------------------------------------


def path(image_id: str, store: str = "near") -> str:
    return f"/v2/stores/{store}/{image_id}"


def test_a_copy_is_removed(service: Service) -> None:
    image_id = copied(service, b"data")
    assert service.client.delete(path(image_id)).status == 204
    assert not (service.directory / "near" / image_id).exists()
    assert service.client.show(image_id)["stores"] == "local"
    assert service.client.download(image_id).body == b"data"
    again = service.client.delete(path(image_id))
    assert again.status == 404
    assert f"Image {image_id} is not stored in store near.".encode() in again.body
    service.assert_clean()


@pytest.mark.filterwarnings("ignore")  # what glanceclient warns of is not ours to mend
def test_glanceclient_removes_a_copy(service: Service) -> None:
    image_id = copied(service, b"data")
    with glance(service) as images:
        images.delete_from_store("near", image_id)
        assert images.get(image_id)["stores"] == "local"
        with pytest.raises(HTTPForbidden):
            images.delete_from_store("local", image_id)


def test_the_last_copy_stays(service: Service) -> None:
    image_id = service.client.active(b"data")
    reply = service.client.delete(path(image_id, "local"))
    assert reply.status == 403
    assert b"only store containing it" in reply.body
    assert service.client.download(image_id).body == b"data"


def test_a_copy_of_what_cannot_lose_one(service: Service) -> None:
    image_id = copied(service, b"data")
    assert service.client.delete(path(image_id, "nowhere")).status == 409
    assert service.client.delete(path("00000000-0000-4000-8000-000000000000")).status == 404
    assert service.client.delete(path(service.client.create())).status == 409
    assert service.client.request("POST", f"/v2/images/{image_id}/actions/deactivate").status == 204
    assert service.client.delete(path(image_id)).status == 409
    assert service.client.get(path(image_id)).status == 405
    assert (service.directory / "near" / image_id).exists()
