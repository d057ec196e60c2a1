"""What clients find out about the service: stores, import methods, quotas, JSON schemas."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import attrs
import pytest

from tests.real.client import Client
from tests.real.service import Service, running

# Of what Glance 33 answers, its keys sorted, the first half of the SHA-256.
SCHEMAS = {
    "image": "4699864e287a64cb",
    "images": "874fcbf7979b34fc",
    "member": "aa6d73f7d2ea96c1",
    "members": "540f472304acfed6",
    "task": "89ce6b90918548f9",
    "tasks": "1e40ef0f8058fa4d",
    "metadefs/namespace": "b461b47c85feea51",
    "metadefs/namespaces": "daacc100192c2516",
    "metadefs/resource_type": "26c8457c26416100",
    "metadefs/resource_types": "56b9a4e6d120485b",
    "metadefs/property": "28413aa7ed08f7cb",
    "metadefs/properties": "55a7cb3efdf3fbd5",
    "metadefs/object": "e3687c997c797a90",
    "metadefs/objects": "6739a4ab0b685645",
    "metadefs/tag": "8e5aa7098057a7b2",
    "metadefs/tags": "7c4735c138ed20af",
}
INFO = ("import", "stores", "stores/detail", "usage")
PATHS = [f"/v2/info/{name}" for name in INFO] + [f"/v2/schemas/{name}" for name in SCHEMAS]


def identity(*roles: str) -> Mapping[str, str]:
    return {
        "X-Identity-Status": "Confirmed",
        "X-User-Id": "u",
        "X-Project-Id": "p",
        "X-Roles": ",".join(roles),
    }


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    directory: Path = tmp_path_factory.mktemp("discovery")
    stores = {
        "fast": {"type": "memory", "description": "small and quick", "weight": 7},
        "local": {"type": "file", "path": str(directory / "images"), "thin": True},
    }
    options = {"stores": stores, "auth": {"mode": "trusted_headers"}}
    with running(directory, options) as started:
        yield started


@pytest.fixture
def client(service: Service) -> Client:
    return attrs.evolve(service.client, headers=identity("reader", "member"))


@pytest.mark.parametrize("name", SCHEMAS)
def test_schemas_are_those_of_glance(client: Client, name: str) -> None:
    reply = client.get(f"/v2/schemas/{name}")
    assert (reply.status, reply.headers["content-type"]) == (200, "application/json")
    text = json.dumps(reply.json(), sort_keys=True).encode()
    assert hashlib.sha256(text).hexdigest()[:16] == SCHEMAS[name]


@pytest.mark.parametrize("path", PATHS)
def test_only_get_without_a_body(client: Client, path: str) -> None:
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        reply = client.request(method, path)
        assert (reply.status, reply.headers["allow"]) == (405, "GET")
    assert client.request("GET", path, b"{}").status == 400


def test_import_methods(client: Client) -> None:
    assert client.get("/v2/info/import").json() == {
        "import-methods": {
            "description": "Import methods available.",
            "type": "array",
            "value": [],
        }
    }


def test_stores(client: Client) -> None:
    assert client.get("/v2/info/stores").json() == {
        "stores": [
            {"id": "fast", "description": "small and quick"},
            {"id": "local", "default": "true"},
        ]
    }


@pytest.mark.parametrize(("roles", "status"), [(("member",), 403), (("admin",), 200)])
def test_who_may_see_details(service: Service, roles: tuple[str], status: int) -> None:
    client = attrs.evolve(service.client, headers=identity(*roles))
    assert client.get("/v2/info/stores/detail").status == status


def test_details_of_stores(service: Service) -> None:
    client = attrs.evolve(service.client, headers=identity("service"))
    fast, local = client.get("/v2/info/stores/detail").json()["stores"]
    assert fast == {
        "id": "fast",
        "description": "small and quick",
        "type": "memory",
        "properties": {},
        "weight": 7,
    }
    properties = local.pop("properties")
    assert local == {"id": "local", "default": "true", "type": "file", "weight": 0}
    assert properties["data_dir"] == str(service.store)
    assert properties["thin_provisioning"] is True
    assert properties["chunk_size"] > 0


def test_usage(client: Client) -> None:
    assert client.get("/v2/info/usage").json() == {"usage": {}}
