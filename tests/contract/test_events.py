"""Each change of an image or a member is told once, after it was committed; a failure is not."""

import json
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import attrs
import pytest
import pytest_twisted
import yaml
from twisted.internet import reactor as installed_reactor
from twisted.internet.threads import deferToThread

from imgservice.config.loader import parse
from imgservice.process.components import Components
from imgservice.service.events import (
    Event,
    ImageActivated,
    ImageCreated,
    ImageDeleted,
    ImageEvent,
    ImageSent,
    ImageUpdated,
    MemberAdded,
    MemberEvent,
    MemberRemoved,
    MemberUpdated,
)
from imgservice.wiring.build import build
from imgservice.wiring.preflight import preflight
from tests.origin import Origin, origin
from tests.real.client import Client, Reply

reactor: Any = installed_reactor
JSON = {"Content-Type": "application/json"}
PATCH = {"Content-Type": "application/openstack-images-v2.1-json-patch"}
LOCATED = {"secure hash": True, "no hash": False}


@attrs.define(eq=False)
class Recording:
    """Notes what it hears, and what the database then has."""

    database: Path
    hears: tuple[type[Event], ...] = (ImageEvent,)
    heard: list[tuple[type[Event], str | None]] = attrs.field(factory=list)
    events: list[ImageEvent] = attrs.field(factory=list)
    is_broken: bool = False

    def hear(self, event: Event) -> None:
        assert isinstance(event, ImageEvent)
        if self.is_broken:
            raise RuntimeError("out of order")
        self.events.append(event)
        self.heard.append((type(event), self._committed(event)))

    def _committed(self, event: ImageEvent) -> str | None:
        """Return what another connection sees of the image, or of the member."""
        query, values = "SELECT status FROM images WHERE id = ?", [event.image.id]
        if isinstance(event, MemberEvent):
            query = "SELECT status FROM image_members WHERE image_id = ? AND member = ?"
            query += " AND deleted = 0"
            values.append(event.member.project)
        with closing(sqlite3.connect(self.database)) as connection:
            row = connection.execute(query, values).fetchone()
        return None if row is None else row[0]

    def take(self) -> Sequence[tuple[type[Event], str | None]]:
        """Return what was heard since the last time."""
        heard, self.heard = self.heard, []
        return heard


@attrs.frozen
class World:
    client: Client
    recording: Recording
    origin: Origin

    async def ask(self, ask: Callable[[], Reply], status: int) -> Reply:
        reply: Reply = await deferToThread(ask)
        assert reply.status == status, reply
        return reply

    async def create(self, **fields: Any) -> str:
        image_id: str = await deferToThread(lambda: self.client.create(**fields))
        return image_id

    async def active(self) -> str:
        image_id = await self.create()
        await self.ask(lambda: self.client.upload(image_id, b"data"), 204)
        self.recording.take()
        return image_id

    async def patch(self, image_id: str, *operations: tuple[str, str, Any], status: int) -> None:
        document = [{"op": op, "path": path, "value": value} for op, path, value in operations]
        body = json.dumps(document).encode()
        await self.ask(
            lambda: self.client.request("PATCH", f"/v2/images/{image_id}", body, PATCH), status
        )


@pytest.fixture
def source() -> Iterator[Origin]:
    with origin() as server:
        yield server


@asynccontextmanager
async def serving(folder: Path, source: Origin, **more: Any) -> AsyncIterator[World]:
    """Serve in this process, with a listener that records."""
    database = folder / "imgservice.db"
    document = {
        "database": {"url": f"sqlite:///{database}"},
        "stores": {
            "local": {"type": "file", "path": str(folder / "images")},
            "web": {"type": "http"},
        },
        "default_store": "local",
        "import": {"filter": {"cidrs": ["127.0.0.1/32"], "allowed_ports": [source.port]}},
        **more,
    }
    config = parse(yaml.safe_dump(document), "test.yaml")
    await deferToThread(preflight, config)
    recording = Recording(database)
    built = build(config, reactor, [recording])
    components = Components(built.components)
    await components.start()
    port = reactor.listenTCP(0, built.site, interface="127.0.0.1")
    try:
        yield World(Client("127.0.0.1", port.getHost().port), recording, source)
    finally:
        await port.stopListening()
        await components.stop()


@pytest_twisted.ensureDeferred
async def test_the_life_of_an_image(tmp_path: Path, source: Origin) -> None:
    async with serving(tmp_path, source) as world:
        client, heard = world.client, world.recording.take
        image_id = await world.create(name="first")
        path = f"/v2/images/{image_id}"
        assert heard() == [(ImageCreated, "queued")]
        await world.ask(lambda: client.upload(image_id, b"some data"), 204)
        assert heard() == [(ImageActivated, "active")]
        activated = world.recording.events[-1].image
        assert (activated.status, activated.size) == ("active", 9)
        assert [one.store for one in activated.locations] == ["local"]
        await world.patch(image_id, ("replace", "/name", "second"), status=200)
        assert heard() == [(ImageUpdated, "active")]
        assert world.recording.events[-1].image.name == "second"
        for _ in range(2):  # nothing changes the second time
            await world.ask(lambda: client.put(f"{path}/tags/new", b""), 204)
        assert heard() == [(ImageUpdated, "active")]
        await world.ask(lambda: client.delete(f"{path}/tags/new"), 204)
        assert heard() == [(ImageUpdated, "active")]
        for action, status in (("deactivate", "deactivated"), ("reactivate", "active")):
            for _ in range(2):
                await world.ask(lambda: client.request("POST", f"{path}/actions/{action}"), 204)  # noqa: B023
            assert heard() == [(ImageUpdated, status)]
        await world.ask(lambda: client.delete(path), 204)
        assert heard() == [(ImageDeleted, "deleted")]
        assert world.recording.events[-1].image.name == "second"
        assert {event.context.project for event in world.recording.events} == {"admin"}


@pytest_twisted.ensureDeferred
async def test_downloads(tmp_path: Path, source: Origin) -> None:
    async with serving(tmp_path, source) as world:
        image_id = await world.active()
        await world.ask(lambda: world.client.download(image_id), 200)
        await world.ask(lambda: world.client.download(image_id, Range="bytes=1-2"), 206)
        sent = [event.sent for event in world.recording.events if isinstance(event, ImageSent)]
        assert sent == [4, 2]
        assert len(world.recording.take()) == 2
        await world.ask(lambda: world.client.request("HEAD", f"/v2/images/{image_id}/file"), 200)
        await world.ask(lambda: world.client.download(image_id, Range="bytes=9-"), 416)
        assert world.recording.take() == []


@pytest_twisted.ensureDeferred
async def test_members(tmp_path: Path, source: Origin) -> None:
    async with serving(tmp_path, source) as world:
        client, heard = world.client, world.recording.take
        image_id = await world.create(visibility="shared")
        path = f"/v2/images/{image_id}/members"
        heard()
        await world.ask(lambda: client.post(path, {"member": "apollo"}), 200)
        assert heard() == [(MemberAdded, "pending")]
        await world.ask(lambda: client.post(path, {"member": "apollo"}), 409)
        accepted = b'{"status": "accepted"}'
        await world.ask(lambda: client.request("PUT", f"{path}/apollo", accepted, JSON), 200)
        assert heard() == [(MemberUpdated, "accepted")]
        await world.ask(
            lambda: client.request("PUT", f"{path}/apollo", b'{"status": "?"}', JSON), 400
        )
        await world.ask(lambda: client.delete(f"{path}/apollo"), 204)
        assert heard() == [(MemberRemoved, None)]
        await world.ask(lambda: client.delete(f"{path}/apollo"), 404)
        assert heard() == []


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("kind", LOCATED)
async def test_data_that_is_at_a_location(tmp_path: Path, source: Origin, kind: str) -> None:
    url = source.put("/disk", b"data")
    async with serving(tmp_path, source, locations={"secure_hash": LOCATED[kind]}) as world:
        image_id = await world.create()
        path = f"/v2/images/{image_id}/locations"
        world.recording.take()
        await world.ask(lambda: world.client.post(path, {"url": source.url("/none")}), 400)
        assert world.recording.take() == []
        await world.ask(lambda: world.client.post(path, {"url": url}), 202)
        assert world.recording.take() == [(ImageActivated, "active")]


@pytest_twisted.ensureDeferred
async def test_locations_in_a_patch(tmp_path: Path, source: Origin) -> None:
    first, second = source.put("/1", b"data"), source.put("/2", b"data")
    async with serving(tmp_path, source, locations={"show": True}) as world:
        image_id = await world.create()
        world.recording.take()
        await world.patch(
            image_id, ("add", "/locations/-", {"url": first, "metadata": {}}), status=200
        )
        assert world.recording.take() == [(ImageActivated, "active")]
        await world.patch(
            image_id, ("add", "/locations/-", {"url": second, "metadata": {}}), status=200
        )
        await world.patch(image_id, ("remove", "/locations/0", None), status=200)
        assert world.recording.take() == [(ImageUpdated, "active")] * 2


@pytest_twisted.ensureDeferred
async def test_failures_are_not_told(tmp_path: Path, source: Origin) -> None:
    limits = {"image_size": 100, "projects": {"default": {"image_count_total": 2}}}
    async with serving(tmp_path, source, limits=limits) as world:
        client = world.client
        queued = await world.create(disk_format="qcow2", protected=True)
        other = await world.active()
        path = f"/v2/images/{queued}"
        world.recording.take()
        await world.ask(lambda: client.post("/v2/images", {"name": "one more"}), 413)
        await world.ask(lambda: client.post("/v2/images", {"min_ram": -1}), 400)
        await world.ask(lambda: client.upload(queued, b"no qcow2"), 415)
        await world.ask(lambda: client.upload(queued, b"x" * 101), 413)
        await world.ask(lambda: client.upload(other, b"again"), 409)
        await world.ask(lambda: client.delete(path), 403)
        await world.ask(lambda: client.delete(f"{path}/tags/none"), 404)
        await world.ask(lambda: client.request("POST", f"{path}/actions/deactivate"), 403)
        await world.ask(lambda: client.get(f"{path}/file"), 204)
        await world.patch(queued, ("replace", "/status", "active"), status=403)
        await world.patch(queued, ("replace", "/none", "1"), status=409)
        await world.patch(queued, status=200)  # changes nothing
        assert world.recording.take() == []


@pytest_twisted.ensureDeferred
async def test_a_broken_listener_harms_no_request(tmp_path: Path, source: Origin) -> None:
    async with serving(tmp_path, source) as world:
        world.recording.is_broken = True
        image_id = await world.create()
        await world.ask(lambda: world.client.upload(image_id, b"data"), 204)
        assert (await world.ask(lambda: world.client.download(image_id), 200)).body == b"data"
        await world.ask(lambda: world.client.delete(f"/v2/images/{image_id}"), 204)
        assert world.recording.take() == []
