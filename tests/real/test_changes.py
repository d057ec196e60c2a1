"""Changes of images by patches, tags and actions, asked for in every role."""

import json
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.examples import SHARING, examples
from tests.real.client import Client
from tests.real.roles import (
    OLDER_PATCH,
    PATCH,
    Callers,
    add,
    callers,
    patch,
    remove,
    replace,
    trusting,
)
from tests.real.service import Service

NOWHERE = "00000000-0000-4000-8000-000000000000"
EMOJI = "\U0001f600"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    limits = {"properties": 3, "tags": 2}
    with trusting(tmp_path_factory.mktemp("changes"), limits=limits) as started:
        yield started


@pytest.fixture
def roles(service: Service) -> Callers:
    return callers(service)


# -- what a patch does ----------------------------------------------------------------------------


def test_patch_answers_with_the_changed_image(roles: Callers) -> None:
    image_id = roles.owner.create(name="old", tags=["t"], foo="1", drop="2")
    before = roles.owner.show(image_id)
    operations = [
        replace("name", "new"),
        replace("foo", "3"),
        remove("drop"),
        add("a~1b", "x"),
        replace("tags", ["v", "u", "v"]),
        add("min_disk", 7),
        replace("visibility", "private"),
        replace("protected", True),
        replace("os_hidden", True),
        replace("disk_format", None),
    ]
    reply = patch(roles.owner, image_id, *operations)
    assert (reply.status, reply.headers["content-type"]) == (200, "application/json")
    image = reply.json()
    expected = before | {
        "name": "new",
        "foo": "3",
        "a/b": "x",
        "tags": ["u", "v"],
        "min_disk": 7,
        "visibility": "private",
        "protected": True,
        "os_hidden": True,
        "disk_format": None,
        "updated_at": image["updated_at"],
    }
    del expected["drop"]
    assert image == expected == roles.owner.show(image_id)
    assert patch(roles.owner, image_id, replace("protected", False)).status == 200


def test_the_older_media_type(roles: Callers) -> None:
    image_id = roles.owner.create(foo="1")
    changes = [{"replace": "/name", "value": "z"}, {"add": "/new", "value": "v"}]
    reply = patch(roles.owner, image_id, *changes, {"remove": "/foo"}, type_=OLDER_PATCH)
    assert reply.status == 200 and reply.json()["new"] == "v" and "foo" not in reply.json()
    for name in ("new", "name"):
        again = patch(roles.owner, image_id, {"add": f"/{name}", "value": "v"}, type_=OLDER_PATCH)
        assert again.status == 409
    assert patch(roles.owner, image_id, add("new", "w")).json()["new"] == "w"


@pytest.mark.parametrize("type_", [None, "application/json", "text/plain", PATCH + "x"])
def test_other_media_types(roles: Callers, type_: str | None) -> None:
    headers = {} if type_ is None else {"Content-Type": type_}
    path = f"/v2/images/{NOWHERE}"
    reply = roles.owner.request("PATCH", path, b"[]", {**headers, "Accept": "application/json"})
    assert reply.status == 415
    assert reply.headers["accept-patch"] == f"{OLDER_PATCH}, {PATCH}"
    assert f"Content-Type one of: {OLDER_PATCH}, {PATCH}" in reply.json()["message"]


def test_parameters_of_the_media_type_do_not_matter(roles: Callers) -> None:
    image_id = roles.owner.create()
    assert patch(roles.owner, image_id, type_=f"{PATCH}; charset=utf-8").status == 200


def test_an_empty_patch_changes_nothing(service: Service, roles: Callers) -> None:
    image_id = roles.owner.create()
    query = "SELECT updated_at FROM images WHERE id = ?"
    before = service.rows(query, image_id)
    assert patch(roles.reader, image_id).json() == roles.owner.show(image_id)
    assert service.rows(query, image_id) == before


def test_all_or_nothing(roles: Callers) -> None:
    image_id = roles.owner.create(name="n")
    before = roles.owner.show(image_id)
    assert patch(roles.owner, image_id, replace("name", "x"), remove("nope")).status == 409
    assert roles.owner.show(image_id) == before


def test_protected_images_change(roles: Callers) -> None:
    image_id = roles.owner.create(protected=True)
    assert patch(roles.owner, image_id, replace("name", "n")).status == 200
    assert roles.owner.delete(f"/v2/images/{image_id}").status == 403
    assert patch(roles.owner, image_id, replace("protected", False)).status == 200
    assert roles.owner.delete(f"/v2/images/{image_id}").status == 204


def test_formats_of_an_image_with_data_stay(roles: Callers) -> None:
    image_id = roles.owner.active(b"abc")
    for name in ("disk_format", "container_format"):
        reply = patch(roles.owner, image_id, replace(name, "ari"))
        assert reply.status == 403 and b"only replaced for a queued image" in reply.body


@pytest.mark.parametrize(
    ("operation", "status"),
    [
        ({"op": "test", "path": "/name", "value": "n"}, 400),
        ({"op": "replace", "path": "name", "value": "n"}, 400),
        ({"op": "replace", "path": "/foo"}, 400),
        (replace("name", 5), 400),
        (replace("name", "n" * 256), 400),
        (replace("foo", None), 400),
        (replace("tags", "t"), 400),
        (replace("tags", [1]), 400),
        (replace("visibility", "all"), 400),
        (replace("disk_format", "floppy"), 400),
        (replace("min_ram", -1), 400),
        (replace("min_ram", 1 << 31), 400),
        (replace("min_ram", "1"), 400),
        (replace("protected", "yes"), 400),
        (replace("name", EMOJI), 400),
        (add(EMOJI, "x"), 400),
        (replace("tags", [EMOJI]), 400),
        (add("k" * 256, "x"), 400),
        (add("k\0", "x"), 400),
        (replace("foo/bar", "x"), 400),
        (add("tags/-", "x"), 400),
        (replace("nope", "x"), 409),
        (remove("nope"), 409),
        (replace("stores", "x"), 409),
        (remove("name"), 403),
        (remove("tags"), 403),
        (add("stores", "x"), 403),
        (replace("id", NOWHERE), 403),
        (replace("status", "active"), 403),
        (remove("status"), 403),
        (replace("size", 1), 403),
        (replace("self", "x"), 403),
        (replace("direct_url", "x"), 403),
        (replace("created_at", "x"), 403),
        (add("os_glance_x", "1"), 403),
        (remove("os_glance_import_task"), 403),
        (replace("location", "x"), 403),
        (add("deleted", "1"), 403),
        (replace("locations", []), 403),
        (replace("owner", "theirs"), 403),
        (add("owner", "theirs"), 403),
        (replace("visibility", "public"), 403),
    ],
    ids=str,
)
def test_what_an_owner_may_not_ask_for(roles: Callers, operation: Any, status: int) -> None:
    image_id = roles.owner.create(foo="1", tags=["t"])
    before = roles.owner.show(image_id)
    assert patch(roles.owner, image_id, operation).status == status
    assert roles.owner.show(image_id) == before


def test_limits(roles: Callers) -> None:
    image_id = roles.owner.create(a="1", b="2", c="3", tags=["x", "y"])
    assert patch(roles.owner, image_id, add("d", "4")).status == 413
    assert patch(roles.owner, image_id, replace("a", "5"), replace("name", "n")).status == 200
    assert patch(roles.owner, image_id, remove("a"), add("d", "4")).status == 200
    assert patch(roles.owner, image_id, replace("tags", ["x", "y", "z"])).status == 413
    assert roles.owner.put(f"/v2/images/{image_id}/tags/z", b"").status == 413
    assert roles.owner.put(f"/v2/images/{image_id}/tags/x", b"").status == 204


def test_what_an_admin_changes(roles: Callers) -> None:
    image_id = roles.owner.create()
    reply = patch(roles.admin, image_id, replace("visibility", "public"), replace("owner", "new"))
    assert (reply.status, reply.json()["owner"]) == (200, "new")
    assert patch(roles.owner, image_id, replace("name", "n")).status == 403
    assert patch(roles.admin, image_id, replace("owner", None)).json()["owner"] is None


def test_a_property_comes_back_into_its_row(service: Service, roles: Callers) -> None:
    image_id = roles.owner.create(p="1")
    query = "SELECT id, value, deleted, deleted_at FROM image_properties WHERE image_id = ?"
    [(row, *_)] = service.rows(query, image_id)
    assert patch(roles.owner, image_id, remove("p")).status == 200
    assert service.rows(query, image_id)[0][:3] == (row, "1", 1)
    assert patch(roles.owner, image_id, add("p", "2")).status == 200
    assert service.rows(query, image_id) == [(row, "2", 0, None)]


# -- who may --------------------------------------------------------------------------------------


def requests(client: Client, image_id: str) -> dict[str, int]:
    """Ask for every kind of change and return the statuses."""
    path = f"/v2/images/{image_id}"
    return {
        "patch": patch(client, image_id, replace("name", "n")).status,
        "add tag": client.put(f"{path}/tags/new", b"").status,
        "remove tag": client.delete(f"{path}/tags/new").status,
        "deactivate": client.request("POST", f"{path}/actions/deactivate").status,
        "reactivate": client.request("POST", f"{path}/actions/reactivate").status,
    }


DONE = {"patch": 200, "add tag": 204, "remove tag": 204, "deactivate": 204, "reactivate": 204}


@pytest.mark.parametrize(
    ("role", "visibility", "status"),
    [
        ("owner", "private", None),
        ("admin", "private", None),
        ("reader", "private", 403),
        ("other", "private", 404),
        ("other", "shared", 404),
        ("other", "community", 403),
        ("reader", "community", 403),
    ],
)
def test_who_changes(roles: Callers, role: str, visibility: str, status: int | None) -> None:
    image_id = roles.owner.active(b"abc", visibility=visibility)
    expected = DONE if status is None else dict.fromkeys(DONE, status)
    assert requests(getattr(roles, role), image_id) == expected


def test_nothing_is_there_to_change(roles: Callers) -> None:
    assert requests(roles.admin, NOWHERE) == dict.fromkeys(DONE, 404)


# -- actions --------------------------------------------------------------------------------------


def test_deactivate_and_reactivate(roles: Callers) -> None:
    image_id = roles.owner.active(b"abc")
    actions = f"/v2/images/{image_id}/actions"
    for _ in range(2):
        assert roles.owner.request("POST", f"{actions}/deactivate").status == 204
        assert roles.owner.show(image_id)["status"] == "deactivated"
    assert roles.owner.download(image_id).status == 403
    assert roles.admin.download(image_id).body == b"abc"
    for _ in range(2):
        assert roles.owner.request("POST", f"{actions}/reactivate").status == 204
        assert roles.owner.show(image_id)["status"] == "active"
    assert roles.owner.download(image_id).body == b"abc"


@pytest.mark.parametrize("action", ["deactivate", "reactivate"])
def test_only_images_with_data_are_switched(roles: Callers, action: str) -> None:
    image_id = roles.owner.create()
    reply = roles.owner.request("POST", f"/v2/images/{image_id}/actions/{action}")
    assert reply.status == 403
    assert f"Not allowed to {action} image in status 'queued'".encode() in reply.body
    assert roles.owner.post(f"/v2/images/{image_id}/actions/{action}", {}).status == 400


# -- tags -----------------------------------------------------------------------------------------


def test_tags(service: Service, roles: Callers) -> None:
    image_id = roles.owner.create()
    path = f"/v2/images/{image_id}/tags"
    for _ in range(2):
        assert roles.owner.put(f"{path}/a%20b", b"").status == 204
    assert roles.owner.show(image_id)["tags"] == ["a b"]
    query = "SELECT count(*) FROM image_tags WHERE image_id = ? AND deleted = 0"
    assert service.rows(query, image_id) == [(1,)]
    assert [roles.owner.delete(f"{path}/a%20b").status for _ in range(2)] == [204, 404]
    assert roles.owner.show(image_id)["tags"] == []
    assert roles.owner.put(f"{path}/{'t' * 255}", b"").status == 204
    assert roles.owner.put(f"{path}/{'t' * 256}", b"").status == 400
    assert roles.owner.put(f"{path}/t", b"{}").status == 400


# -- at the same time -----------------------------------------------------------------------------


def test_patches_at_the_same_time_all_survive(service: Service, roles: Callers) -> None:
    image_id = roles.owner.create()
    admin, start = roles.admin, threading.Barrier(16)
    names = ["name", "min_disk", "min_ram", "protected"]
    values: list[Any] = ["n", 3, 4, False]

    def change(number: int) -> list[int]:
        start.wait()
        kind = number % 4
        field = replace(names[kind], values[kind])
        tag = f"/v2/images/{image_id}/tags/{'xy'[number % 2]}"
        found = [patch(admin, image_id, field).status, admin.put(tag, b"").status]
        return [*found, *(patch(admin, image_id, add("abc"[number % 3], "v")).status,)]

    with ThreadPoolExecutor(16) as pool:
        statuses = [status for found in pool.map(change, range(16)) for status in found]
    assert set(statuses) == {200, 204}
    image = roles.owner.show(image_id)
    assert {name: image[name] for name in (*names, "a", "b", "c", "tags")} == {
        **dict(zip(names, values, strict=True)),
        **dict.fromkeys("abc", "v"),
        "tags": ["x", "y"],
    }


def test_patches_and_a_deletion_at_the_same_time(roles: Callers) -> None:
    for _ in range(5):
        image_id = roles.owner.create()
        with ThreadPoolExecutor(9) as pool:
            changes = [
                pool.submit(patch, roles.owner, image_id, add("p", str(n))) for n in range(8)
            ]
            gone = pool.submit(roles.owner.delete, f"/v2/images/{image_id}")
        assert gone.result().status == 204
        assert {change.result().status for change in changes} <= {200, 404}


# -- anything at all ------------------------------------------------------------------------------

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 1 << 70) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
POINTERS = st.sampled_from(
    ["/name", "/tags", "/foo", "/locations", "/locations/-", "/visibility", "/owner", "/min_disk"]
) | st.text(max_size=12).map("/".__add__)
OPERATIONS = st.fixed_dictionaries(
    {"op": st.sampled_from(["add", "remove", "replace", "test"]), "path": POINTERS | VALUES},
    optional={"value": VALUES},
)


@settings(
    max_examples=examples(150),
    deadline=None,
    suppress_health_check=SHARING,
)
@given(document=st.lists(OPERATIONS, max_size=3) | VALUES)
def test_any_document_is_answered(roles: Callers, document: Any) -> None:
    image_id = roles.owner.create(id=str(uuid.uuid4()), foo="1")
    for client in (roles.owner, roles.admin):
        body = json.dumps(document).encode()
        path = f"/v2/images/{image_id}"
        reply = client.request("PATCH", path, body, {"Content-Type": PATCH})
        assert reply.status == 200 or 400 <= reply.status < 500, reply
    assert roles.admin.show(image_id)["id"] == image_id
