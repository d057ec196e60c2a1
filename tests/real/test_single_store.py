"""A service whose clients see no stores, as those of a Glance without `enabled_backends`."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.real.client import Client
from tests.real.service import Service, running

SINGLE = {"single_store": True, "locations": {"show": True, "direct_url": True}}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running(tmp_path_factory.mktemp("single"), SINGLE) as service:
        yield service


def metadata(service: Service, image_id: str) -> Any:
    query = "SELECT meta_data FROM image_locations WHERE image_id = ?"
    return [json.loads(text) for (text,) in service.rows(query, image_id)]


def test_nothing_tells_of_stores(service: Service) -> None:
    client = service.client
    made = client.post("/v2/images", {"disk_format": "raw", "container_format": "bare"})
    assert "openstack-image-store-ids" not in made.headers
    image_id = made.json()["id"]
    assert client.upload(image_id, b"data", X_Image_Meta_Store="nowhere").status == 204
    url = f"file://{service.store}/{image_id}"
    shown = client.show(image_id)
    assert "stores" not in shown
    assert shown["locations"] == [{"url": url, "metadata": {}}]
    assert shown["direct_url"] == url
    assert metadata(service, image_id) == [{}]
    assert client.download(image_id).body == b"data"


@pytest.mark.parametrize("path", ["/v2/info/stores", "/v2/info/stores/detail", "/v2.8/info/stores"])
def test_stores_are_not_listed(service: Service, path: str) -> None:
    assert service.client.get(path).status == (300 if "2.8" in path else 404)


def test_no_store_can_be_preferred(service: Service) -> None:
    image_id = service.client.active(b"data")
    path = f"/v2/images/{image_id}/file"
    assert service.client.get(f"{path}?prefer=local").status == 400
    assert service.client.get(f"{path}?prefer=").body == b"data"
    assert service.client.delete(f"/v2/stores/local/{image_id}").status == 404


def test_rows_can_be_read_after_a_change_to_several_stores_and_back(tmp_path: Path) -> None:
    service = Service(tmp_path, SINGLE)
    several = yaml.safe_dump({**service.options, "single_store": False})
    one = service.config.read_text()
    service.make_tables()

    def restarted(text: str) -> Client:
        service.stop()
        service.config.write_text(text)
        return service.start().client

    try:
        client = service.start().client
        first = client.active(b"one")
        client = restarted(several)
        assert client.show(first)["stores"] == "local"
        assert client.show(first)["locations"][0]["metadata"] == {"store": "local"}
        second = client.active(b"several")
        assert metadata(service, second) == [{"store": "local"}]
        client = restarted(one.replace("local:", "other:", 1) + "default_store: other\n")
        assert client.show(second)["locations"][0]["metadata"] == {"store": "local"}
        assert [client.download(one).body for one in (first, second)] == [b"one", b"several"]
        assert client.delete(f"/v2/images/{second}").status == 204
        assert set(service.files()) == {first}
        service.assert_clean()
    finally:
        service.end()
