"""Where the data of an image lies, for those who may know."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import pytest

from tests.real.client import Client
from tests.real.service import Service, running


def identity(*roles: str) -> Mapping[str, str]:
    return {
        "X-Identity-Status": "Confirmed",
        "X-User-Id": "u",
        "X-Project-Id": "p",
        "X-Roles": ",".join(roles),
    }


def options(**locations: bool) -> dict[str, Any]:
    return {"locations": locations, "auth": {"mode": "trusted_headers"}}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    directory: Path = tmp_path_factory.mktemp("locations")
    with running(directory, options(show=True, direct_url=True)) as started:
        yield started


@pytest.fixture
def client(service: Service) -> Client:
    return attrs.evolve(service.client, headers=identity("reader", "member"))


@pytest.fixture
def admin(service: Service) -> Client:
    return attrs.evolve(service.client, headers=identity("admin", "reader", "member"))


def test_no_data_no_location(client: Client) -> None:
    shown = client.show(client.create())
    assert shown["locations"] == []
    assert not {"direct_url", "stores"} & shown.keys()


def test_locations(client: Client, service: Service) -> None:
    image_id = client.active(b"data")
    url = f"file://{service.store}/{image_id}"
    shown = client.show(image_id)
    assert shown["locations"] == [{"url": url, "metadata": {"store": "local"}}]
    assert (shown["direct_url"], shown["stores"]) == (url, "local")
    [listed] = client.get(f"/v2/images?id={image_id}").json()["images"]
    assert listed == shown


def test_data_that_must_not_be_used(client: Client, admin: Client) -> None:
    image_id = client.active(b"data")
    path = f"/v2/images/{image_id}"
    before = client.get(path).headers["etag"]
    assert admin.request("POST", f"{path}/actions/deactivate").status == 204
    shown = client.show(image_id)
    assert (shown["status"], shown["locations"]) == ("deactivated", [])
    assert not {"direct_url", "stores"} & shown.keys()
    told = admin.show(image_id)
    assert (len(told["locations"]), "direct_url" in told, told["stores"]) == (1, True, "local")
    tags = {before, client.get(path).headers["etag"], admin.get(path).headers["etag"]}
    assert len(tags) == 3  # what one sees decides


@pytest.mark.parametrize(
    ("shown", "names"),
    [
        ({}, set()),
        ({"show": True}, {"locations"}),
        ({"direct_url": True}, {"direct_url"}),
    ],
)
def test_what_is_shown(tmp_path: Path, shown: dict[str, bool], names: set[str]) -> None:
    with running(tmp_path, {"locations": shown}) as service:
        image = service.client.show(service.client.active(b"data"))
        assert {"locations", "direct_url"} & image.keys() == names


def test_the_store_of_most_weight_comes_first(tmp_path: Path) -> None:
    stores = {
        "local": {"type": "file", "path": str(tmp_path / "images")},
        "heavy": {"type": "memory", "weight": 5},
    }
    with running(tmp_path, {"stores": stores, "locations": {"direct_url": True}}) as service:
        client = service.client
        image_id = client.active(b"data")
        second = client.create()
        client.upload(second, b"more", X_Image_Meta_Store="heavy")
        url = client.show(second)["direct_url"]
        assert url == f"memory://heavy/{second}"
        assert client.show(image_id)["direct_url"].startswith("file://")
        client.delete(f"/v2/images/{second}")
