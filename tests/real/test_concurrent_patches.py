"""Many clients patch one image at once, each in its own way: nobody breaks it, or is told 500."""

import random
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import attrs
import fastjsonschema
import pytest

from tests.real.client import Client, Reply
from tests.real.roles import add, caller, patch, remove, replace, trusting
from tests.real.service import Service

CLIENTS = 16
PATCHES = 15
NAMES = ["a", "b", "c"]
TAGS = ["x", "y", "z"]
VISIBILITIES = ["private", "shared", "community"]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with trusting(tmp_path_factory.mktemp("concurrent")) as started:
        yield started


def operation(draw: random.Random, value: str) -> dict[str, Any]:
    """Draw what can be done to an image, and may turn out to be impossible."""
    name = draw.choice(NAMES)
    return draw.choice(
        [
            add(name, value),
            replace(name, value),
            remove(name),
            replace("name", value),
            replace("tags", draw.sample(TAGS, draw.randrange(4))),
            replace("min_ram", draw.randrange(9)),
            replace("visibility", draw.choice(VISIBILITIES)),
            replace("os_hidden", draw.random() < 0.5),
        ]
    )


def unchanged_since(client: Client, image_id: str) -> Client:
    """Return a client whose requests hold only while the image is as it is now."""
    tag = client.get(f"/v2/images/{image_id}").headers["etag"]
    return attrs.evolve(client, headers={**client.headers, "If-Match": tag})


def patches(client: Client, image_id: str, number: int) -> Iterator[tuple[str, Reply]]:
    """Send this client's patches, each of which sets the property of its own to a new value."""
    draw = random.Random(number)
    for turn in range(PATCHES):
        value = f"{number}.{turn}"
        operations = [operation(draw, value) for _ in range(draw.randrange(3))]
        sender = unchanged_since(client, image_id) if turn % 3 == 0 else client
        yield value, patch(sender, image_id, *operations, add(f"own {number}", value))


def test_mixed_patches(service: Service) -> None:
    client, start = caller(service, "ours"), threading.Barrier(CLIENTS)
    image_id = client.create(name="0.0", a="0.0")

    def send(number: int) -> list[tuple[str, Reply]]:
        start.wait()
        return list(patches(client, image_id, number))

    with ThreadPoolExecutor(CLIENTS) as pool:
        sent = list(pool.map(send, range(CLIENTS)))
    replies = [reply for each in sent for _, reply in each]
    statuses = Counter(reply.status for reply in replies)
    assert statuses.keys() == {200, 409, 412}, statuses
    check = fastjsonschema.compile({"type": "object", **client.get("/v2/schemas/image").json()})
    for reply in replies:
        if reply.status == 200:
            check(reply.json())
    image = client.show(image_id)
    check(image)
    # All or nothing: what a client last did with success is there, and of the rest not a trace.
    done = [[value for value, reply in each if reply.status == 200] for each in sent]
    assert [image[f"own {number}"] for number in range(CLIENTS)] == [each[-1] for each in done]
    written = {"0.0", *(value for each in done for value in each)}
    assert {image["name"], *(image[name] for name in NAMES if name in image)} <= written
    assert set(image["tags"]) <= set(TAGS) and image["visibility"] in VISIBILITIES
    query = "SELECT value FROM image_tags WHERE image_id = ? AND deleted = 0"
    assert sorted(value for (value,) in service.rows(query, image_id)) == image["tags"]
