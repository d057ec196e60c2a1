"""What nodes of Glance rely on in the database, and what we bear from them.

Ours is asked over HTTP. The other one is played in SQL: the rows that Glance writes, and a look at
those that we have written. docs/explanation/sharing-a-database.md lists the rules.
"""

import hashlib
import json
import re
import uuid
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import yaml

from imgservice.db.schema.tables import GLANCE_REVISION, glance_metadata
from tests.real.client import Client
from tests.real.roles import add, members, patch, remove, replace
from tests.real.service import Service, running, wait_until
from tests.sharing.asking import begin_upload
from tests.sharing.conftest import Cloud
from tests.sharing.other import Other, Row, now

LOCK = "os_glance_import_task"
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def live_a_life(client: Client) -> str:
    """Let an image live through everything that there is, and return its id."""
    image_id = client.active(b"data", tags=["a"], hw_disk_bus="scsi")
    path = f"/v2/images/{image_id}"
    assert client.post(members(image_id), {"member": "friends"}).status == 200
    assert patch(client, image_id, add("more", "1"), remove("hw_disk_bus")).status == 200
    assert client.request("POST", f"{path}/actions/deactivate").status == 204
    assert client.delete(f"{path}/tags/a").status == 204
    assert client.delete(path).status == 204
    return image_id


def columns(other: Other, table: str) -> list[str]:
    return [one["name"] for one in sa.inspect(other.engine).get_columns(table)]


def whole(other: Other, table: str) -> list[Row]:
    names = ", ".join(columns(other, table))
    return other.rows(f"SELECT {names} FROM {table} ORDER BY 1, 2")  # noqa: S608


def properties(other: Other, image_id: str) -> dict[str, Row]:
    """Return the row of each property: its number, its value, and whether it is deleted."""
    found = other.rows(
        "SELECT name, id, value, deleted FROM image_properties WHERE image_id = :id", id=image_id
    )
    assert len({name for name, *_ in found}) == len(found), "two rows for one property"
    return {name: (row, value, bool(deleted)) for name, row, value, deleted in found}


# -- the tables -----------------------------------------------------------------------------------


def test_all_of_ours_is_beside_glances_tables(cloud: Cloud) -> None:
    live_a_life(cloud.owner)
    found = set(sa.inspect(cloud.other.engine).get_table_names())
    added = found - {*glance_metadata.tables, "alembic_version"}
    assert added and all(name.startswith("imgsvc_") for name in added)
    for name, table in glance_metadata.tables.items():
        assert set(columns(cloud.other, name)) == {column.name for column in table.columns}
    assert cloud.other.rows("SELECT version_num FROM alembic_version") == [(GLANCE_REVISION,)]


def times(other: Other, image_id: str) -> tuple[datetime, datetime]:
    """Return when the image was made and changed, as the driver gives them."""
    query = sa.text("SELECT created_at, updated_at FROM images WHERE id = :id")
    typed = query.columns(created_at=sa.DateTime(), updated_at=sa.DateTime())
    with other.engine.connect() as connection:
        created, updated = connection.execute(typed, {"id": image_id}).one()
    return created, updated


def test_times_have_no_zone_and_move_with_every_property(cloud: Cloud) -> None:
    """They are as fine as the columns: in microseconds, but on MariaDB in seconds."""
    began, past, fractions = now(), datetime(2020, 1, 1), set()
    image_id = cloud.owner.create()
    for operation in (add("note", "1"), replace("note", "2"), remove("note")):
        cloud.other.run("UPDATE images SET updated_at = :at WHERE id = :id", at=past, id=image_id)
        assert patch(cloud.owner, image_id, operation).status == 200
        created, updated = times(cloud.other, image_id)
        assert created.tzinfo is updated.tzinfo is None
        for moment in (created, updated):
            assert began - timedelta(seconds=2) < moment < now() + timedelta(seconds=2)
            fractions.add(moment.microsecond)
    assert (fractions == {0}) == (cloud.other.kind == "mysql")


def test_json_is_text_and_flags_are_flags(cloud: Cloud) -> None:
    image_id = cloud.owner.active(b"data", protected=True, visibility="private")
    metadata, status = cloud.other.one(
        "SELECT meta_data, status FROM image_locations WHERE image_id = :id", id=image_id
    )
    assert (json.loads(metadata), status) == ({"store": "local"}, "active")
    flags = cloud.other.one(
        "SELECT protected, os_hidden, deleted, visibility FROM images WHERE id = :id", id=image_id
    )
    assert flags == (1, 0, 0, "private")
    if cloud.other.kind == "postgresql":
        assert cloud.other.rows("SELECT typname FROM pg_type WHERE typname = 'image_visibility'")


# -- rows that stay -------------------------------------------------------------------------------


def test_what_is_deleted_is_marked_and_never_used_again(cloud: Cloud) -> None:
    image_id = cloud.owner.active(b"data", tags=["a"], hw_disk_bus="scsi")
    assert cloud.owner.post(members(image_id), {"member": "friends"}).status == 200
    assert cloud.owner.delete(f"/v2/images/{image_id}").status == 204
    status, deleted, moment = cloud.other.one(
        "SELECT status, deleted, deleted_at FROM images WHERE id = :id", id=image_id
    )
    assert (status, deleted) == ("deleted", 1) and moment is not None
    for table in ("image_locations", "image_properties", "image_members", "image_tags"):
        marks = f"SELECT deleted, deleted_at FROM {table} WHERE image_id = :id"  # noqa: S608
        assert cloud.other.rows(marks, id=image_id) == [(1, moment)], table
    locations = "SELECT status FROM image_locations WHERE image_id = :id"
    assert cloud.other.rows(locations, id=image_id) == [("deleted",)]
    assert cloud.owner.post("/v2/images", {"id": image_id}).status == 409


def test_ids_that_another_node_has_used_are_taken(cloud: Cloud) -> None:
    gone = cloud.other.image(status="deleted", deleted=True, deleted_at=now())
    for image_id in (gone, cloud.other.image(owner="theirs", visibility="private")):
        assert cloud.owner.post("/v2/images", {"id": image_id}).status == 409
        assert cloud.owner.get(f"/v2/images/{image_id}").status == 404


def test_a_property_has_one_row_for_ever(cloud: Cloud) -> None:
    image_id = cloud.other.image()
    cloud.other.property(image_id, "kept", "1")
    cloud.other.property(image_id, "gone", "2", deleted=True)
    before = properties(cloud.other, image_id)
    assert "gone" not in cloud.owner.show(image_id)
    assert patch(cloud.owner, image_id, remove("kept"), add("gone", "3")).status == 200
    after = properties(cloud.other, image_id)
    assert after["kept"][::2] == (before["kept"][0], True)
    assert after["gone"] == (before["gone"][0], "3", False)
    assert patch(cloud.owner, image_id, add("kept", "4"), replace("gone", "5")).status == 200
    assert properties(cloud.other, image_id) == {
        "kept": (before["kept"][0], "4", False),
        "gone": (before["gone"][0], "5", False),
    }


def test_a_member_has_one_row_for_ever(cloud: Cloud) -> None:
    image_id = cloud.other.image()
    cloud.other.member(image_id, "friends", "accepted", deleted=True)
    rows = "SELECT id, status, deleted, deleted_at FROM image_members WHERE image_id = :id"
    [(number, *_)] = cloud.other.rows(rows, id=image_id)
    assert cloud.member.get(f"/v2/images/{image_id}").status == 404
    assert cloud.owner.post(members(image_id), {"member": "friends"}).status == 200
    assert cloud.other.rows(rows, id=image_id) == [(number, "pending", 0, None)]
    assert cloud.owner.delete(members(image_id, "friends")).status == 204
    assert cloud.owner.post(members(image_id), {"member": "friends"}).status == 200
    assert cloud.other.rows(rows, id=image_id) == [(number, "pending", 0, None)]
    assert cloud.member.get(f"/v2/images/{image_id}").status == 200


# -- work of other nodes --------------------------------------------------------------------------


def test_the_lock_of_an_import_is_its_holders(cloud: Cloud) -> None:
    """Taken as Glance takes it: the old row if there is one, else a new one."""
    image_id = cloud.owner.create()
    take = (
        "UPDATE image_properties SET value = :task, deleted = :no, deleted_at = NULL"
        " WHERE image_id = :id AND name = :name AND deleted != :no"
    )
    values: dict[str, Any] = {"id": image_id, "name": LOCK, "no": False}
    assert cloud.other.run(take, task="task-1", **values) == 0
    cloud.other.property(image_id, LOCK, "task-1")
    held = properties(cloud.other, image_id)[LOCK]
    for operation in (add("a", "1"), replace("a", "2"), remove("a"), replace("name", "n")):
        assert patch(cloud.owner, image_id, operation).status == 200
    assert cloud.owner.put(f"/v2/images/{image_id}/tags/t", b"").status in (204, 400)
    assert patch(cloud.owner, image_id, add(LOCK, "mine")).status == 403
    assert patch(cloud.owner, image_id, remove(LOCK)).status == 403
    assert properties(cloud.other, image_id)[LOCK] == held
    release = (
        "DELETE FROM image_properties"
        " WHERE image_id = :id AND name = :name AND value = :task AND deleted = :no"
    )
    assert cloud.other.run(release, task="task-1", **values) == 1
    assert patch(cloud.owner, image_id, add("b", "1")).status == 200
    assert LOCK not in properties(cloud.other, image_id)
    cloud.other.property(image_id, LOCK, "task-1", deleted=True)
    assert patch(cloud.owner, image_id, add("b", "2")).status == 200
    assert properties(cloud.other, image_id)[LOCK][1:] == ("task-1", True)
    assert cloud.other.run(take, task="task-2", **values) == 1


def test_tasks_of_other_nodes_are_left_alone(cloud: Cloud) -> None:
    image_id = cloud.other.image(status="importing")
    importing = {"image_id": image_id, "import_req": {"method": {"name": "glance-direct"}}}
    cloud.other.task(image_id, "api_image_import", {**importing, "backend": ["local"]})
    located = {"image_id": image_id, "loc_url": "http://web/", "validation_data": {}}
    cloud.other.task(image_id, "location_import", located)
    before = [whole(cloud.other, table) for table in ("tasks", "task_info")]
    assert patch(cloud.owner, image_id, add("a", "1")).status == 200
    assert cloud.owner.delete(f"/v2/images/{image_id}").status == 204
    live_a_life(cloud.owner)
    assert [whole(cloud.other, table) for table in ("tasks", "task_info")] == before


@pytest.mark.parametrize("status", ["uploading", "importing", "saving", "killed", "pending_delete"])
def test_every_status_of_another_node_is_understood_and_left(cloud: Cloud, status: str) -> None:
    image_id = cloud.other.image(status=status)
    assert cloud.owner.show(image_id)["status"] == status
    assert patch(cloud.owner, image_id, replace("name", "other")).status in (200, 403)
    assert cloud.owner.upload(image_id, b"data").status == 409
    listed = [one["id"] for one in cloud.owner.get("/v2/images?limit=1000").json()["images"]]
    assert (image_id in listed) == (status != "killed")
    row = "SELECT status FROM images WHERE id = :id"
    assert cloud.other.one(row, id=image_id) == (status,)


def test_of_two_nodes_that_change_a_status_the_first_wins(cloud: Cloud) -> None:
    image_id = cloud.owner.create()
    turn = "UPDATE images SET status = :to WHERE id = :id AND status = :was"
    with begin_upload(cloud.owner, image_id, 8, b"four") as upload:
        wait_until(lambda: cloud.owner.show(image_id)["status"] == "saving")
        assert cloud.other.run(turn, id=image_id, was="queued", to="uploading") == 0
        assert cloud.other.run(turn, id=image_id, was="saving", to="killed") == 1
        upload.sendall(b"more")
        assert upload.recv(100).startswith(b"HTTP/1.1 410")
    assert cloud.owner.show(image_id)["status"] == "killed"
    assert cloud.owner.show(image_id)["locations"] == []
    wait_until(lambda: image_id not in cloud.service.files())
    assert cloud.other.rows("SELECT * FROM imgsvc_leases") == []


def test_notes_between_nodes_are_shown_to_nobody(cloud: Cloud) -> None:
    image_id = cloud.other.image(status="importing")
    for name in ("os_glance_stage_host", "os_glance_hash_op_host"):
        cloud.other.property(image_id, name, "http://node2:9292")
        assert patch(cloud.admin, image_id, add(name, "http://me")).status == 403
    for name in ("os_glance_importing_to_stores", "os_glance_failed_import"):
        cloud.other.property(image_id, name, "a,b")
    shown = cloud.admin.show(image_id)
    assert not {"os_glance_stage_host", "os_glance_hash_op_host"} & shown.keys()
    assert shown["os_glance_importing_to_stores"] == shown["os_glance_failed_import"] == "a,b"
    assert patch(cloud.owner, image_id, add("note", "1")).status == 200
    assert {row[2] for row in properties(cloud.other, image_id).values()} == {False}


def test_the_caches_of_other_nodes_are_left_alone(cloud: Cloud) -> None:
    image_id, moment = cloud.owner.active(b"data"), now()
    url = f"http://{uuid.uuid4()}:9292"
    cloud.other.insert("node_reference", node_reference_url=url)
    [(node,)] = cloud.other.rows(
        "SELECT node_reference_id FROM node_reference WHERE node_reference_url = :url", url=url
    )
    cloud.other.insert("cached_images", image_id=image_id, last_accessed=moment, size=4, hits=1,
                       last_modified=moment, checksum="0" * 32, node_reference_id=node)  # fmt: skip
    before = [whole(cloud.other, table) for table in ("node_reference", "cached_images")]
    assert cloud.owner.download(image_id).status == 200
    assert cloud.owner.delete(f"/v2/images/{image_id}").status == 204
    assert [whole(cloud.other, table) for table in ("node_reference", "cached_images")] == before


# -- where data lies ------------------------------------------------------------------------------


def put_object(cloud: Cloud, image_id: str, data: bytes = b"theirs") -> Path:
    """Put the data of an image where Glance puts it into our store."""
    path = cloud.service.store / image_id
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("scheme", "metadata"),
    [
        ("file", {"store": "local"}),
        ("file", {"backend": "local"}),
        ("filesystem", {"store": "local", "more": {"a": "b"}}),
        ("file", {}),
    ],
)
def test_locations_of_all_releases_are_read(
    cloud: Cloud, scheme: str, metadata: dict[str, Any]
) -> None:
    image_id = cloud.other.image(size=6)
    path = put_object(cloud, image_id)
    cloud.other.location(image_id, f"{scheme}://{path}", metadata)
    assert cloud.owner.download(image_id).body == b"theirs"
    shown = cloud.owner.show(image_id)
    assert shown["stores"] == "local"
    more = {name: value for name, value in metadata.items() if name == "more"}
    [location] = shown["locations"]
    assert location == {"url": f"{scheme}://{path}", "metadata": {"store": "local"} | more}
    marked = {"url": location["url"], "metadata": {**location["metadata"], "new": "1"}}
    assert patch(cloud.owner, image_id, replace("locations", [marked])).status == 200
    [(text,)] = cloud.other.rows(
        "SELECT meta_data FROM image_locations WHERE image_id = :id", id=image_id
    )
    assert json.loads(text) == {"store": "local", "new": "1"} | more
    assert cloud.owner.delete(f"/v2/images/{image_id}").status == 204
    assert not path.exists()


def test_only_active_locations_count_in_the_order_of_their_rows(cloud: Cloud) -> None:
    image_id = cloud.other.image()
    for url, status, deleted in (
        ("http://z/", "active", False),
        ("http://gone/", "deleted", True),
        ("http://pending/", "pending_delete", False),
        ("http://a/", "active", False),
    ):
        cloud.other.location(image_id, url, {"store": "web"}, status, deleted)
    shown = cloud.owner.show(image_id)
    assert [one["url"] for one in shown["locations"]] == ["http://z/", "http://a/"]
    assert shown["stores"] == "web,web"


def test_locations_keep_their_order_for_who_reads_them_without_one(cloud: Cloud) -> None:
    image_id = cloud.other.image(size=6)
    urls = [f"http://{name}/" for name in "cab"]
    for url in urls:
        cloud.other.location(image_id, url, {"store": "web"})
    for marked in range(3):
        shown = cloud.owner.show(image_id)["locations"]
        shown[marked]["metadata"]["more"] = "1"
        assert patch(cloud.owner, image_id, replace("locations", shown)).status == 200
        for seen in cloud.other.locations(image_id):
            assert seen == urls, f"after a change of {urls[marked]}"
    assert cloud.owner.show(image_id)["locations"] == shown


def test_a_store_that_is_not_here_is_kept_and_shown(cloud: Cloud) -> None:
    image_id = cloud.other.image(size=6)
    url = "rbd://fsid/pool/x/snap"
    cloud.other.location(image_id, url, {"store": "edge", "more": "1"})
    row = "SELECT value, meta_data, status, deleted FROM image_locations WHERE image_id = :id"
    before = cloud.other.rows(row, id=image_id)
    shown = cloud.owner.show(image_id)
    assert shown["stores"] == "edge"
    assert shown["locations"] == [{"url": url, "metadata": {"store": "edge", "more": "1"}}]
    assert cloud.owner.download(image_id).status == 503
    assert patch(cloud.owner, image_id, add("a", "1"), replace("name", "n")).status == 200
    assert cloud.other.rows(row, id=image_id) == before
    path = put_object(cloud, image_id)
    cloud.other.location(image_id, f"file://{path}", {"store": "local"})
    assert cloud.owner.download(image_id).body == b"theirs"  # from the store that is here
    assert cloud.owner.show(image_id)["stores"] == "edge,local"
    cloud.other.run("DELETE FROM image_locations WHERE image_id = :id", id=image_id)
    path.unlink()


def test_data_in_a_store_that_is_not_here_is_removed_by_who_has_it(tmp_path: Path) -> None:
    stores = {name: {"type": "file", "path": str(tmp_path / name)} for name in ("local", "edge")}
    service = Service(tmp_path, {"stores": stores, "default_store": "local"})
    here = yaml.safe_dump({**service.options, "stores": {"local": stores["local"]}})
    everywhere = service.config.read_text()
    try:
        client = service.start().client
        image_id = client.create()
        assert client.upload(image_id, b"data", X_Image_Meta_Store="edge").status == 204
        service.kill()
        service.config.write_text(here)
        service.start()
        assert client.show(image_id)["stores"] == "edge"
        assert client.delete(f"/v2/images/{image_id}").status == 204
        assert client.get(f"/v2/images/{image_id}").status == 404
        service.kill()
        assert (tmp_path / "edge" / image_id).exists()
        assert service.rows("SELECT kind, image_id FROM imgsvc_leases") == [("delete", image_id)]
        service.config.write_text(everywhere)
        service.start()
        wait_until(lambda: not (tmp_path / "edge" / image_id).exists())
        wait_until(service.is_at_rest)
    finally:
        service.end()


@pytest.mark.parametrize(
    "url",
    [
        "s3+https://KEY:S3/CRET@s3.example/bucket/x",
        "swift+https://t%3Au:user:S3CRET@auth.example/v3/glance/x",
        "https://user:S3CRET@web.example/x",
    ],
)
def test_credentials_in_urls_are_shown_to_nobody_and_kept(cloud: Cloud, url: str) -> None:
    image_id = cloud.other.image(size=6, visibility="public")
    cloud.other.location(image_id, url, {"store": "old"})
    for client in (cloud.owner, cloud.member):
        for reply in (
            client.get(f"/v2/images/{image_id}"),
            client.get(f"/v2/images?id={image_id}"),
            client.get(f"/v2/images/{image_id}/locations"),
            client.download(image_id),
        ):
            assert b"CRET" not in reply.body
    assert "CRET" not in cloud.service.log.read_text()
    rows = "SELECT value FROM image_locations WHERE image_id = :id"
    [shown] = cloud.owner.show(image_id)["locations"]
    marked = {"url": shown["url"], "metadata": {**shown["metadata"], "more": "1"}}
    changed = patch(cloud.owner, image_id, add("a", "1"), replace("locations", [marked]))
    assert changed.status == 200
    assert changed.json()["locations"] == [marked]
    assert cloud.other.one(rows, id=image_id) == (url,)
    assert patch(cloud.owner, image_id, add("locations/-", shown)).status == 400


def test_an_encrypted_location_is_left_alone_and_told(cloud: Cloud) -> None:
    image_id = cloud.other.image(size=6)
    encrypted = "1VmSOXhlUKY3Sx6ESpTXYwzSEUk-b3BFPtbV_Yz3Vq4="
    cloud.other.location(image_id, encrypted, {"store": "local"})
    before = whole(cloud.other, "image_locations")
    path = f"/v2/images/{image_id}"
    for reply, status in (
        (cloud.owner.get(f"{path}/file", Accept="application/json"), 503),
        (cloud.owner.delete(path, Accept="application/json"), 409),
        (patch(cloud.admin, image_id, remove("locations/0")), 409),
    ):
        assert (reply.status, b"encrypted" in reply.body) == (status, True), reply.body
    assert patch(cloud.owner, image_id, add("a", "1")).status == 200
    assert whole(cloud.other, "image_locations") == before


def test_an_object_has_the_name_of_its_image_and_hashes_of_its_bytes(cloud: Cloud) -> None:
    data = b"0123456789" * 1000
    image_id = cloud.owner.active(data)
    assert (cloud.service.store / image_id).read_bytes() == data
    url, _ = cloud.other.one(
        "SELECT value, meta_data FROM image_locations WHERE image_id = :id", id=image_id
    )
    assert url == f"file://{cloud.service.store}/{image_id}"
    found = cloud.other.one(
        "SELECT size, checksum, os_hash_algo, os_hash_value FROM images WHERE id = :id",
        id=image_id,
    )
    md5, sha512 = hashlib.md5(data).hexdigest(), hashlib.sha512(data).hexdigest()
    assert found == (len(data), md5, "sha512", sha512)


def test_nothing_unfinished_has_the_name_of_an_image(cloud: Cloud) -> None:
    """Glance removes files with such names from directories for staging when it starts."""
    image_id, before = cloud.owner.create(), set(cloud.service.files())
    with begin_upload(cloud.owner, image_id, 3_000_000, bytes(2_000_000)) as upload:
        wait_until(lambda: bool(set(cloud.service.files()) - before))
        unfinished = set(cloud.service.files()) - before
        assert not any(UUID.fullmatch(name) for name in unfinished)
        upload.sendall(bytes(1_000_000))
        assert upload.recv(100).startswith(b"HTTP/1.1 204")
    assert set(cloud.service.files()) - before == {image_id}


# -- old releases ---------------------------------------------------------------------------------


def test_images_of_old_releases_have_no_hash_and_empty_properties(cloud: Cloud) -> None:
    image_id = cloud.other.image(name=None, checksum="0" * 32, size=6, updated_at=None)
    path = put_object(cloud, image_id)
    cloud.other.location(image_id, f"file://{path}")
    cloud.other.property(image_id, "from_v1", None)
    shown = cloud.owner.show(image_id)
    assert (shown["os_hash_algo"], shown["os_hash_value"]) == (None, None)
    assert (shown["from_v1"], shown["checksum"]) == ("", "0" * 32)
    assert cloud.owner.download(image_id).body == b"theirs"
    assert patch(cloud.owner, image_id, replace("name", "n")).status == 200
    hashes = "SELECT os_hash_algo, os_hash_value FROM images WHERE id = :id"
    assert cloud.other.one(hashes, id=image_id) == (None, None)
    assert cloud.owner.delete(f"/v2/images/{image_id}").status == 204


@pytest.mark.parametrize(
    ("newest", "announced"),
    [
        ("2.2", [2, 1, 0]),
        ("2.9", [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]),
        ("2.13", [13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0]),
    ],
)
def test_no_newer_version_is_announced_than_the_oldest_node_has(
    tmp_path: Path, newest: str, announced: list[int]
) -> None:
    with running(tmp_path, {"api": {"max_version": newest}}) as service:
        versions = service.client.get("/versions").json()["versions"]
        assert [one["id"] for one in versions] == [f"v2.{minor}" for minor in announced]
        assert [one["id"] for one in versions if one["status"] == "CURRENT"] == [f"v{newest}"]
        assert service.client.get(f"/v{newest}/images").status == 200
        assert service.client.get(f"/v2.{announced[0] + 1}/images").status == 300
