"""Errors have the texts of Glance's: users search for them, and some programs match them.

`Case.words` are those of a Glance 33 to the same request; ours may say more.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import attrs
import pytest

from tests.origin import origin
from tests.real.client import Client, Reply
from tests.real.roles import add, caller, members, patch, remove, replace
from tests.real.test_locations import started

IMAGES = "/v2/images"
ELSEWHERE = "http://169.254.169.254/latest/meta-data"


@attrs.frozen
class World:
    member: Client
    admin: Client
    url: str
    """Where data is."""


@attrs.frozen
class Case:
    status: int
    words: str
    """{id} stands for the image."""
    ask: Callable[[World, str], Reply]
    fields: Mapping[str, Any] = attrs.field(factory=dict)
    """Of the image that is asked for."""
    data: bytes | None = None


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("texts")
    with origin() as web, started(folder, limits={"image_size": 1000}) as service:
        url = web.put("/disk.raw", b"data")
        yield World(caller(service, "ours"), caller(service, "ops", "admin,member,reader"), url)


def place(url: str) -> Any:
    return {"url": url, "metadata": {}}


def got(query: str) -> Callable[[World, str], Reply]:
    return lambda world, image_id: world.member.get(f"{IMAGES}{query}")


def patched(*operations: Any) -> Callable[[World, str], Reply]:
    return lambda world, image_id: patch(world.admin, image_id, *operations)


def downloaded(query: str = "", **headers: str) -> Callable[[World, str], Reply]:
    return lambda world, image_id: world.member.get(f"{IMAGES}/{image_id}/file{query}", **headers)


def uploaded(data: bytes, **headers: str) -> Callable[[World, str], Reply]:
    return lambda world, image_id: world.member.upload(image_id, iter([data]), **headers)


def located_twice(world: World, image_id: str) -> Reply:
    assert patch(world.admin, image_id, add("locations/-", place(world.url))).status == 200
    return patch(world.admin, image_id, add("locations/-", place(world.url)))


def located(world: World, image_id: str) -> Reply:
    return world.member.post(f"{IMAGES}/{image_id}/locations", {"url": ELSEWHERE})


CASES = {
    "no body": Case(
        400,
        "Body expected in request.",
        lambda world, _: world.member.request(
            "POST", IMAGES, b"", {"Content-Type": "application/json"}
        ),
    ),
    "no JSON": Case(
        400,
        "Malformed JSON in request body",
        lambda world, _: world.member.request(
            "POST", IMAGES, b"{", {"Content-Type": "application/json"}
        ),
    ),
    "a number": Case(400, "Unexpected body type.", lambda world, _: world.member.post(IMAGES, 5)),
    "schema": Case(
        400,
        "Provided object does not match schema 'image'",
        lambda world, _: world.member.post(IMAGES, {"name": 5}),
    ),
    "reserved": Case(
        403,
        "Attribute 'os_glance_x' is reserved.",
        lambda world, _: world.member.post(IMAGES, {"os_glance_x": "y"}),
    ),
    "another's": Case(
        403,
        "You are not permitted to create images owned by 'theirs'",
        lambda world, _: world.member.post(IMAGES, {"owner": "theirs"}),
    ),
    "no format": Case(
        400,
        "Property disk_format must be set prior to saving data.",
        uploaded(b"data"),
        {"disk_format": None},
    ),
    "no formats": Case(
        400,
        " must be set prior to saving data.",
        uploaded(b"data"),
        {"disk_format": None, "container_format": None},
    ),
    "too much": Case(413, "The incoming image is too large", uploaded(b"x" * 1001)),
    "more than told": Case(
        400,
        "Size exceeds: expected 2 bytes, got 4 bytes",
        uploaded(b"data", X_OpenStack_Image_Size="2"),
    ),
    "format": Case(
        415,
        "Image disk_format qcow2 does not match stream data raw",
        uploaded(b"data"),
        {"disk_format": "qcow2"},
    ),
    "ranges": Case(
        400,
        "Requests with multiple ranges are not supported",
        downloaded(Range="bytes=0-1,3-3"),
        data=b"data",
    ),
    "range": Case(
        416,
        "Invalid start position in Range header",
        downloaded(Range="bytes=4-"),
        data=b"data",
    ),
    "old range": Case(
        416,
        "Invalid stop position in Content-Range header",
        downloaded(Content_Range="bytes 1-4/*"),
        data=b"data",
    ),
    "no range": Case(416, "Invalid Range header.", downloaded(Range="x"), data=b"data"),
    "store": Case(400, "Store 'third' is not configured", downloaded("?prefer=third"), data=b"x"),
    "marker": Case(400, "No image found with ID nothing", got("?marker=nothing")),
    "limit": Case(400, "limit param must be positive", got("?limit=-1")),
    "protected": Case(
        400,
        "Invalid value 'True' for 'protected' filter. Valid values are 'true' or 'false'.",
        got("?protected=True"),
    ),
    "operator": Case(400, "Unable to filter by unknown operator 'like'.", got("?name=like:x")),
    "number": Case(400, "Unable to filter on a range with a non-numeric value", got("?size_min=x")),
    "image": Case(404, "No image found with ID nothing", got("/nothing")),
    "protected image": Case(
        403,
        "Image {id} is protected and cannot be deleted.",
        lambda world, image_id: world.member.delete(f"{IMAGES}/{image_id}"),
        {"protected": True},
    ),
    "owner": Case(
        403,
        "Owner can't be updated by non admin.",
        lambda world, image_id: patch(world.member, image_id, replace("owner", "theirs")),
    ),
    "removal": Case(403, "Property name may not be removed.", patched(remove("name"))),
    "property": Case(409, "Property none does not exist.", patched(remove("none"))),
    "members": Case(
        403,
        "Not allowed to create members for image {id}",
        lambda world, image_id: world.member.post(members(image_id), {"member": "theirs"}),
        {"visibility": "private"},
    ),
    "location elsewhere": Case(400, " does not pass filtering: ", located),
    "no location": Case(400, "Invalid location", patched(add("locations/-", place("file:///x")))),
    "location again": Case(400, "already exists", located_twice),
    "location's position": Case(
        400,
        "Invalid position for adding a location.",
        lambda world, image_id: patch(world.admin, image_id, add("locations/7", place(world.url))),
    ),
    "last location": Case(
        403,
        "Cannot remove last location in the image.",
        patched(remove("locations/0")),
        data=b"data",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_glances_words(world: World, name: str) -> None:
    case = CASES[name]
    image_id = world.member.create(**{"visibility": "shared", **case.fields})
    if case.data is not None:
        assert world.member.upload(image_id, case.data).status == 204
    reply = case.ask(world, image_id)
    text = re.sub(r"\s+", " ", reply.body.decode())
    assert reply.status == case.status, text
    assert case.words.replace("{id}", image_id) in text
