"""Custom properties that an operator has described in a file."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.real.client import Client, Reply
from tests.real.commands import run_command
from tests.real.service import IMGSERVICE, Service, running

PROPERTIES: dict[str, dict[str, Any]] = {
    "os_distro": {"type": "string", "enum": ["debian", "fedora"], "description": "what it is"},
    "kernel_id": {"type": ["null", "string"], "pattern": "^[0-9a-f]{4}$"},
    "cores": {"type": "integer", "minimum": 1},
    "share": {"type": "number"},
    "headless": {"type": "boolean"},
}
GOOD: dict[str, Any] = {
    "os_distro": "debian",
    "kernel_id": None,
    "cores": 4,
    "share": 0.5,
    "headless": True,
}
PATCH = {"Content-Type": "application/openstack-images-v2.1-json-patch"}


def start(directory: Path, document: Any) -> Any:
    path = directory / "schema-image.json"
    path.write_text(json.dumps(document))
    return running(directory, {"api": {"schema_file": str(path)}})


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    document = {"properties": PROPERTIES, "required": ["os_distro"]}
    with start(tmp_path_factory.mktemp("schema"), document) as started:
        yield started


def patch(client: Client, image_id: str, *operations: Any) -> Reply:
    body = json.dumps(operations).encode()
    return client.request("PATCH", f"/v2/images/{image_id}", body, PATCH)


def change(verb: str, name: str, value: Any = None) -> dict[str, Any]:
    return {"op": verb, "path": f"/{name}", "value": value}


def test_the_schema_shows_them(client: Client) -> None:
    schema = client.get("/v2/schemas/image").json()
    assert list(schema) == ["name", "properties", "additionalProperties", "required", "links"]
    assert schema["required"] == ["os_distro"]
    for name, field in PROPERTIES.items():
        assert schema["properties"][name] == {**field, "is_base": False}
    assert client.get("/v2/schemas/images").json()["properties"]["images"]["items"] == schema


def test_values_keep_their_types(client: Client, service: Service) -> None:
    image_id = client.create(**GOOD, other="text")
    shown = client.show(image_id)
    assert {name: shown[name] for name in GOOD} == GOOD
    assert shown["other"] == "text"
    [listed] = client.get(f"/v2/images?id={image_id}").json()["images"]
    assert listed == shown
    stored = service.rows("SELECT name, value FROM image_properties WHERE image_id = ?", image_id)
    assert dict(stored)["headless"] == "true"
    assert dict(stored)["cores"] == "4"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("os_distro", "windows"),
        ("os_distro", None),
        ("kernel_id", "xyz"),
        ("cores", "4"),
        ("cores", 0),
        ("cores", 1.5),
        ("headless", "true"),
        ("other", 4),
    ],
)
def test_wrong_values(client: Client, name: str, value: Any) -> None:
    reply = client.post("/v2/images", {**GOOD, name: value})
    assert (reply.status, name.encode() in reply.body) == (400, True)
    image_id = client.create(**GOOD)
    assert patch(client, image_id, change("add", name, value)).status == 400


def test_required_ones(client: Client) -> None:
    reply = client.post("/v2/images", {"name": "without"})
    assert (reply.status, b"os_distro" in reply.body) == (400, True)
    image_id = client.create(**GOOD)
    assert patch(client, image_id, change("replace", "name", "new")).status == 200
    assert patch(client, image_id, change("remove", "os_distro")).status == 400
    assert client.show(image_id)["os_distro"] == "debian"
    added = change("add", "os_distro", "fedora")
    assert patch(client, image_id, added, change("remove", "os_distro")).status == 400
    assert patch(client, image_id, change("remove", "os_distro"), added).status == 200
    assert client.show(image_id)["os_distro"] == "fedora"


def test_whole_numbers(client: Client) -> None:
    for given, shown in ((1.0, 1), (1 << 53, 1 << 53), ((1 << 63) + 1, (1 << 63) + 1)):
        image_id = client.create(**{**GOOD, "cores": given})
        assert (client.show(image_id)["cores"], type(client.show(image_id)["cores"])) == (
            shown, int,
        )  # fmt: skip
    for given in (10**20 - 1, -(10**20)):
        for name in ("cores", "share"):
            reply = client.post("/v2/images", {**GOOD, name: given})
            assert reply.status == 400, (name, given)
    assert client.show(client.create(**{**GOOD, "share": 1e-9}))["share"] == 1e-9


def test_patches_with_types(client: Client) -> None:
    image_id = client.create(os_distro="debian")
    added = [change("add", name, value) for name, value in GOOD.items()]
    reply = patch(client, image_id, *added)
    assert reply.status == 200, reply
    assert {name: reply.json()[name] for name in GOOD} == GOOD
    assert client.show(image_id) == reply.json()
    assert client.get(f"/v2/images/{image_id}").headers["etag"] == reply.headers["etag"]
    reply = patch(client, image_id, change("replace", "cores", 8), change("remove", "headless"))
    assert (reply.json()["cores"], "headless" in reply.json()) == (8, False)


def test_filters_find_them(client: Client) -> None:
    image_id = client.create(**{**GOOD, "cores": 64})
    [found] = client.get("/v2/images?cores=64&headless=true").json()["images"]
    assert found["id"] == image_id


def test_values_that_others_wrote(client: Client, service: Service) -> None:
    image_id = client.create(**GOOD)
    with closing(sqlite3.connect(service.database)) as connection, connection:
        for name, value in (("cores", "many"), ("headless", "1"), ("share", None)):
            connection.execute(
                "UPDATE image_properties SET value = ? WHERE image_id = ? AND name = ?",
                (value, image_id, name),
            )
    shown = client.show(image_id)
    assert (shown["cores"], shown["headless"], shown["share"]) == ("many", True, None)


def test_the_short_form(tmp_path: Path) -> None:
    with start(tmp_path, PROPERTIES) as service:
        schema = service.client.get("/v2/schemas/image").json()
        assert schema["properties"]["cores"]["is_base"] is False
        assert "required" not in schema
        service.client.create(cores=2)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (None, "cannot be read"),
        ("{", "not valid JSON"),
        ("[]", "expected a JSON object"),
        ('{"a": 1}', "a: expected a JSON object"),
        ('{"a": {"type": "object"}}', "a: the type must be among"),
        ('{"a": {"type": {}}}', "a: the type must be among"),
        ('{"name": {"type": "string"}}', "name: every image has a field of this name"),
        ('{"a": {"type": "string", "pattern": "("}}', "a: not a usable JSON schema"),
        ('{"properties": []}', "properties: expected a JSON object"),
        ('{"properties": {}, "required": "a"}', "required: expected a list of names"),
        ('{"properties": {}, "required": 5}', "required: expected a list of names"),
    ],
)
def test_files_that_cannot_be_used(tmp_path: Path, text: str | None, told: str) -> None:
    path = tmp_path / "schema.json"
    if text is not None:
        path.write_text(text)
    config = tmp_path / "imgservice.yaml"
    config.write_text(f"api:\n  schema_file: {path}\n")
    done = run_command(IMGSERVICE, "check", "--config", config, cwd=tmp_path)
    assert done.returncode != 0
    assert f"{config}:2: api.schema_file: {path}: " in done.stderr + done.stdout
    assert told in done.stderr + done.stdout
