"""From a real Glance to imgservice and back, with all images that the Glance had."""

import hashlib
import json
import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import attrs
import pytest
import sqlalchemy as sa

from imgservice.db.schema.tables import glance_metadata, images
from tests import glance
from tests.glance import Glance
from tests.keystone import Keystone
from tests.real.client import Client
from tests.real.commands import run_command
from tests.real.service import IMGSERVICE, Service
from tests.servers import Server

COPIES = 20
CHILDREN = ("image_properties", "image_locations", "image_members", "image_tags")
PATCH = "application/openstack-images-v2.1-json-patch"
LISTS = (
    ("admin", "limit=100"),
    ("admin", "limit=30&os_hidden=true"),
    ("demo", "limit=30&sort=created_at:asc&visibility=private"),
    ("demo", "limit=30&visibility=community"),
    ("alt", "limit=30&member_status=all"),
    ("alt", "limit=30&visibility=shared&member_status=accepted"),
    ("reader", "limit=30&protected=true"),
)
"""Callers and queries that together list all images, and show who sees which."""


@attrs.frozen
class Asked:
    """One of the two, as its users see it."""

    client: Client
    tokens: Mapping[str, str]

    def as_user(self, user: str) -> Client:
        return attrs.evolve(self.client, headers={"X-Auth-Token": self.tokens[user]})

    def lists(self) -> list[list[Any]]:
        return [list(self._list(user, query)) for user, query in LISTS]

    def _list(self, user: str, query: str) -> Iterator[Any]:
        path = f"/v2/images?{query}"
        while path:
            reply = self.as_user(user).get(path)
            assert reply.status == 200, reply
            page = reply.json()
            yield from map(in_order, page["images"])
            path = page.get("next", "")

    def shown(self, ids: Sequence[str]) -> list[Any]:
        """Return what is shown of each of these images, and the projects it is shared with."""
        admin = self.as_user("admin")
        found = []
        for image_id in ids:
            shared = admin.get(f"/v2/images/{image_id}/members")
            members = sorted(shared.json()["members"], key=str) if shared.status == 200 else None
            found.append((in_order(admin.show(image_id)), shared.status, members))
        return found

    def assert_data(self, found: Sequence[Any]) -> None:
        """Download these images, and see that each has the hashes that are told of it."""
        for image in found:
            data = self.as_user("admin").download(image["id"]).body
            assert len(data) == image["size"]
            assert hashlib.md5(data).hexdigest() == image["checksum"]
            assert hashlib.sha512(data).hexdigest() == image["os_hash_value"]


def in_order(image: Any) -> Any:
    """Tags come in any order."""
    return {**image, "tags": sorted(image["tags"])}


def change(client: Client, image_id: str, *operations: Any) -> None:
    body = json.dumps(operations).encode()
    path = f"/v2/images/{image_id}"
    reply = client.request("PATCH", path, body, {"Content-Type": PATCH})
    assert reply.status == 200, reply


def act(client: Client, image_id: str, action: str) -> None:
    assert client.request("POST", f"/v2/images/{image_id}/actions/{action}").status == 204


def replace(name: str, value: Any) -> Any:
    return {"op": "replace", "path": f"/{name}", "value": value}


# -- what there is to take over -------------------------------------------------------------------


def make_images(asked: Asked, projects: Mapping[str, str]) -> None:
    """Make images of every kind by the API."""
    demo, admin = asked.as_user("demo"), asked.as_user("admin")
    for number, visibility in enumerate(("shared", "private", "community", "public") * 3):
        fields = {"name": f"{visibility} {number}", "tags": ["a", f"b{number}"], "min_ram": number}
        made = admin.create(
            **fields, visibility=visibility, owner=projects["demo"], os_distro="debian", empty=""
        )
        if number % 4 != 3 or number > 4:
            store = {"X_Image_Meta_Store": ["local", "second"][number % 2]}
            assert admin.upload(made, os.urandom(1000 + number), **store).status == 204
        if visibility == "shared":
            share(asked, made, projects["alt"], ("accepted", "pending", "rejected")[number // 4])
        change(demo if visibility != "public" else admin, made, {"op": "remove", "path": "/empty"})
        if number in (1, 2, 4, 7):
            change(admin, made, replace("os_hidden", True))
        if number in (5, 6, 8):
            change(admin, made, replace("protected", True))
        if number in (2, 4, 9):
            act(admin, made, "deactivate")
        if number in (0, 10):
            assert admin.delete(f"/v2/images/{made}/tags/a").status == 204
    for name in (None, "Grüße 世界", "queued"):
        demo.create(**({"name": name} if name else {}), disk_format="qcow2", min_disk=3)
    for _ in range(2):
        gone = demo.active(b"to be deleted", name="deleted", tags=["x"], one="y")
        assert demo.post(f"/v2/images/{gone}/members", {"member": projects["alt"]}).status == 200
        assert demo.delete(f"/v2/images/{gone}").status == 204


def share(asked: Asked, image_id: str, project: str, status: str) -> None:
    members = f"/v2/images/{image_id}/members"
    assert asked.as_user("demo").post(members, {"member": project}).status == 200
    if status != "pending":
        reply = asked.as_user("alt").request(
            "PUT",
            f"{members}/{project}",
            json.dumps({"status": status}).encode(),
            {"Content-Type": "application/json"},
        )
        assert reply.status == 200, reply


def multiply(there: Glance) -> None:
    """Make copies of all images, row for row as Glance wrote them, with data of their own."""
    engine = sa.create_engine(there.database, poolclass=sa.NullPool)
    with engine.begin() as connection:
        originals = _rows(connection, images)
        numbers = range(1, COPIES + 1)
        new = {(one["id"], n): str(uuid4()) for one in originals for n in numbers}
        copies = [_copy(one, n, id=new[one["id"], n]) for one in originals for n in numbers]
        connection.execute(sa.insert(images), copies)
        for name in CHILDREN:
            table = glance_metadata.tables[name]
            children = [
                _child(one, n, new[one["image_id"], n])
                for one in _rows(connection, table)
                for n in numbers
            ]
            connection.execute(sa.insert(table), children)


def _rows(connection: sa.Connection, table: sa.Table) -> Sequence[Mapping[Any, Any]]:
    return connection.execute(sa.select(table)).mappings().all()


def _copy(row: Mapping[Any, Any], number: int, **changed: Any) -> dict[str, Any]:
    """Everything happened some minutes before it happened to the original."""
    earlier = timedelta(minutes=number)
    times = {name: value - earlier for name, value in row.items() if name.endswith("_at") and value}
    return {**row, **times, **changed}


def _child(row: Mapping[Any, Any], number: int, image_id: str) -> dict[str, Any]:
    copy = _copy(row, number, image_id=image_id)
    del copy["id"]
    if "meta_data" in copy:
        copy["value"] = copy["value"].replace(row["image_id"], image_id)
        if not copy["deleted"]:
            os.link(row["value"].removeprefix("file://"), copy["value"].removeprefix("file://"))
    return copy


# -- there and back -------------------------------------------------------------------------------


@pytest.fixture(params=["postgresql", "mariadb"])
def there(request: pytest.FixtureRequest, identity: Keystone, tmp_path: Path) -> Iterator[Glance]:
    server: Server = request.getfixturevalue(request.param)
    with glance.started(tmp_path / "glance", server.create("takeover"), identity) as started:
        yield started


def test_there_and_back(there: Glance, identity: Keystone, tmp_path: Path) -> None:
    users = {"admin": "admin", "demo": "demo", "alt": "alt", "reader": "demo"}
    tokens = {user: identity.token(user, project) for user, project in users.items()}
    theirs = Asked(there.client, tokens)
    make_images(theirs, identity.projects)
    multiply(there)
    before = theirs.lists()
    assert len(before[0]) > 100  # more than a page
    shown_before = theirs.shown(some_of(before))
    there.stop()

    here = there.beside(tmp_path / "imgservice")
    assert run_command(IMGSERVICE, "check", "--config", here.config).returncode == 0
    try:
        ours = Asked(here.start().client, tokens)
        assert ours.lists() == before
        assert ours.shown(some_of(before)) == shown_before
        ours.assert_data(with_data(before)[::10])
        change_much(ours, identity.projects, before)
        after = ours.lists()
        assert after != before
        shown_after = ours.shown(some_of(after))
        assert deleted_rows(there) > len(before[0]) // 10
        end(here)
    finally:
        here.end()

    there.start()
    assert theirs.lists() == after
    assert theirs.shown(some_of(after)) == shown_after
    theirs.assert_data(with_data(after)[::10])
    there.manage("db", "purge", "--age_in_days", "0", "--max_rows", "-1")
    there.manage("db", "purge_images_table", "--age_in_days", "0", "--max_rows", "-1")
    assert theirs.lists() == after
    assert deleted_rows(there) == 0


def deleted_rows(there: Glance) -> int:
    engine = sa.create_engine(there.database, poolclass=sa.NullPool)
    counted = sa.select(sa.func.count()).select_from(images).where(images.c.deleted)
    with engine.connect() as connection:
        return connection.scalar(counted) or 0


def with_data(lists: Sequence[Sequence[Any]]) -> list[Any]:
    return [image for image in (*lists[0], *lists[1]) if image["status"] == "active"]


def some_of(lists: Sequence[Sequence[Any]]) -> list[str]:
    return [image["id"] for image in lists[0]][::20]


def end(service: Service) -> None:
    service.signal(signal.SIGTERM)
    service.wait()
    assert "Traceback" not in service.log.read_text()


def change_much(asked: Asked, projects: Mapping[str, str], lists: Sequence[Sequence[Any]]) -> None:
    """Do everything that can be done to images, to every second one."""
    admin = asked.as_user("admin")
    for number, image in enumerate(lists[0][::2]):
        path = f"/v2/images/{image['id']}"
        match number % 6:
            case 0:
                change(admin, image["id"], replace("name", f"renamed {number}"),
                       {"op": "add", "path": "/empty", "value": "again"})  # fmt: skip
            case 1 if not image["protected"]:
                assert admin.delete(path).status == 204
            case 2:
                assert admin.put(f"{path}/tags/new", b"").status == 204
                assert admin.delete(f"{path}/tags/a").status in (204, 404)
            case 3:
                change(admin, image["id"], replace("protected", not image["protected"]))
                change(admin, image["id"], replace("os_hidden", True))
            case 4 if image["status"] in ("active", "deactivated"):
                to = "reactivate" if image["status"] == "deactivated" else "deactivate"
                act(admin, image["id"], to)
            case 5 if image["visibility"] == "shared":
                assert admin.delete(f"{path}/members/{projects['alt']}").status in (204, 404)
                for member in (projects["alt"], "other"):
                    assert admin.post(f"{path}/members", {"member": member}).status == 200
    make_images(asked, projects)
