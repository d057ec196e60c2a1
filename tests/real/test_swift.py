"""The service with a store in Swift, also beside a Glance with the same store."""

import os
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import pytest
import sqlalchemy as sa

from tests import glance, keystone, swift
from tests.glance import Glance
from tests.keystone import PASSWORD, Keystone
from tests.real.client import Client
from tests.real.service import Service, running, wait_until
from tests.real.troubles import told_troubles
from tests.servers import Server
from tests.swift import KEY, Swift

DATA = os.urandom(3_072_000)
"""Three segments of Glance's: it waits for ever for the rest of a last one that is shorter."""
HASTY = {"timeout": 2, "connect_timeout": 2}
SEGMENTS = {"segment_from": "1MiB", "segment_size": "1MiB", "retry_memory": 0}


def options_of(directory: Path, store: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of a service with the store, and an empty one of files."""
    (directory / "images").mkdir()
    stores = {"local": {"type": "file", "path": str(directory / "images")}, "objects": store}
    return {"stores": stores, "default_store": "objects", "locations": {"show": True}}


# -- with v1 authentication -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def fragile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Swift]:
    with swift.started(tmp_path_factory.mktemp("swift")) as started:
        yield started


def test_an_image_comes_and_goes(fragile: Swift, tmp_path: Path) -> None:
    container = fragile.container()
    store = fragile.options(auth="v1", container=container, **SEGMENTS)
    with running(tmp_path, options_of(tmp_path, store)) as service:
        client = service.client
        image_id = client.create()
        assert client.upload(image_id, DATA).status == 204
        assert len(fragile.objects(container)) == 4
        assert client.download(image_id).body == DATA
        path = f"/v2/images/{image_id}/file"
        part = client.get(path, Range="bytes=1048570-1048580")
        assert (part.status, part.body) == (206, DATA[1048570:1048581])
        shown = client.show(image_id)
        assert shown["locations"][0]["url"] == f"swift+config://ref1/{container}/{image_id}"
        assert client.delete(f"/v2/images/{image_id}").status == 204
        assert fragile.objects(container) == []
        assert KEY not in service.log.read_text()


def test_a_swift_that_fails_is_told_of_once_and_nothing_is_left(
    fragile: Swift, tmp_path: Path
) -> None:
    container = fragile.container()
    store = fragile.options(auth="v1", container=container, **SEGMENTS, **HASTY)
    options = {**options_of(tmp_path, store), "healthcheck": {"interval": 0.3}}
    with running(tmp_path, options) as service:
        client = service.client
        image_id = client.create()
        interrupt(fragile, service, image_id, container)
        assert client.show(image_id)["status"] == "saving"
        fragile.signal(signal.SIGCONT)
        wait_until(lambda: client.show(image_id)["status"] == "queued", 60)
        assert fragile.objects(container) == []
        assert client.upload(image_id, DATA).status == 204
        assert client.download(image_id).body == DATA
        wait_until(lambda: "works again" in service.log.read_text())
        lines = told_troubles(service)
        for begin, end in zip(lines[::2], lines[1::2], strict=False):
            assert f"Store objects at {fragile.auth_url}, container {container} fails: " in begin
            assert "works again" in end
        assert client.delete(f"/v2/images/{image_id}").status == 204


def interrupt(fragile: Swift, service: Service, image_id: str, container: str) -> None:
    """Have Swift pause when it has a segment of an upload, which fails; it stays paused."""

    def data() -> Iterator[bytes]:
        yield DATA
        wait_until(lambda: fragile.objects(container))
        fragile.signal(signal.SIGSTOP)
        for _ in range(10):
            yield DATA

    reply = service.client.upload(image_id, data())
    assert reply.status == 503, reply


def test_the_service_starts_without_swift(fragile: Swift, tmp_path: Path) -> None:
    store = fragile.options(auth="v1", container=fragile.container(), **HASTY)
    with fragile.paused(), running(tmp_path, options_of(tmp_path, store)) as service:
        image_id = service.client.create()
        assert service.client.upload(image_id, DATA).status == 503
        wait_until(lambda: " fails: " in service.log.read_text())
        assert service.client.get("/healthcheck/ready").status == 503


# -- with Keystone, beside Glance -----------------------------------------------------------------


@attrs.frozen
class Cloud:
    keystone: Keystone
    swift: Swift
    glance: Glance
    ours: Service

    def client(self, server: Client) -> Client:
        return attrs.evolve(server, headers={"X-Auth-Token": self.keystone.token("admin", "admin")})

    def objects(self) -> list[str]:
        token = self.keystone.token("imgservice", "service")
        account = f"/v1/AUTH_{self.keystone.projects['service']}"
        client = Client("127.0.0.1", self.swift.port, {"X-Auth-Token": token})
        reply = client.get(f"{account}/glance")
        return reply.body.decode().split() if reply.status == 200 else []


ACCOUNT = {
    "type": "swift",
    "swift_store_user": "service:imgservice",
    "swift_store_key": PASSWORD,
    "swift_store_create_container_on_put": "true",
    "swift_store_large_object_size": 2,
    "swift_store_large_object_chunk_size": 1,
}


@pytest.fixture(scope="module")
def cloud(postgresql: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    directory = tmp_path_factory.mktemp("cloud")
    with (
        keystone.started(directory / "keystone") as identity,
        swift.started(directory / "swift", keystone=identity) as objects,
    ):
        identity.offer("identity", identity.url)
        identity.offer("object-store", f"{objects.url}/v1/AUTH_%(project_id)s")
        more = {"objects": {**ACCOUNT, "swift_store_auth_address": identity.url}}
        database = postgresql.create("beside_swift")
        with glance.started(directory / "glance", database, identity, more=more) as there:
            ours = there.beside(directory / "imgservice")
            try:
                yield Cloud(identity, objects, there, ours.start())
            finally:
                ours.end()


@pytest.mark.parametrize("size", [1000, len(DATA)])
@pytest.mark.parametrize("is_known", [True, False])
@pytest.mark.parametrize("ours_writes", [True, False])
def test_each_reads_and_removes_what_the_other_wrote(
    cloud: Cloud, size: int, is_known: bool, ours_writes: bool
) -> None:
    here, there = cloud.client(cloud.ours.client), cloud.client(cloud.glance.client)
    writer, reader = (here, there) if ours_writes else (there, here)
    image_id = writer.create()
    data = DATA[:size] if is_known else iter([DATA[:size]])
    assert writer.upload(image_id, data, X_Image_Meta_Store="objects").status == 204
    assert reader.download(image_id).body == DATA[:size]
    assert here.download(image_id).body == DATA[:size]
    path = f"/v2/images/{image_id}/file"
    assert here.get(path, Range="bytes=10-19").body == DATA[10:20]
    (url,) = {row[0] for row in locations(cloud, image_id)}
    if ours_writes:
        segments = 0 if is_known and size == 1000 else -(-size // 1_024_000)
        assert len(cloud.objects()) == 1 + segments
        assert url == f"swift+config://ref1/glance/{image_id}"
    assert reader.delete(f"/v2/images/{image_id}").status == 204
    wait_until(lambda: cloud.objects() == [])


def locations(cloud: Cloud, image_id: str) -> Any:
    query = sa.text("SELECT value FROM image_locations WHERE image_id = :id")
    engine = sa.create_engine(cloud.glance.database)
    with engine.connect() as connection:
        found = connection.execute(query, {"id": image_id}).all()
    engine.dispose()
    return found


def test_an_application_credential_does_as_well(cloud: Cloud, tmp_path: Path) -> None:
    credential = cloud.keystone.application_credential("imgservice", "service")
    store = {
        "type": "swift",
        "auth_url": cloud.keystone.url,
        "application_credential": {"id": credential.id, "secret": credential.secret},
        "create_container": True,
    }
    with running(tmp_path, options_of(tmp_path, store)) as service:
        image_id = service.client.create()
        assert service.client.upload(image_id, DATA).status == 204
        assert cloud.objects() == [image_id]
        assert service.client.delete(f"/v2/images/{image_id}").status == 204
        assert cloud.objects() == []


def test_wrong_passwords_are_not_in_the_log(cloud: Cloud, tmp_path: Path) -> None:
    store = {"type": "swift", "auth_url": cloud.keystone.url, "user": "service:imgservice"}
    options = options_of(tmp_path, {**store, "key": "not-the-password"})
    with running(tmp_path, options) as service:
        image_id = service.client.create()
        reply = service.client.upload(image_id, DATA)
        assert reply.status == 503
        wait_until(lambda: "our credentials are refused" in service.log.read_text())
        assert "not-the-password" not in f"{service.log.read_text()} {reply.body!r}"
