"""The database refuses to record an upload whose bytes are stored: it is given up at once."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet import reactor

from imgservice.config.loader import load
from imgservice.wiring.build import build
from imgservice.wiring.jobs import BackgroundJobs
from tests.logs import log_lines
from tests.origin import origin
from tests.real.client import Client
from tests.real.service import Service, wait_until

SAVING = "(SELECT status FROM images WHERE id = OLD.image_id) = 'saving'"
REFUSALS = {
    "image": "BEFORE UPDATE ON images WHEN NEW.status = 'active'",
    "location": "BEFORE INSERT ON image_locations",
    "location-recorded": "AFTER INSERT ON image_locations",
    "lease": f"BEFORE DELETE ON imgsvc_leases WHEN {SAVING}",
}
"""Where the record of an upload may fail; the last one makes giving up fail as well."""
AT_ONCE = sorted(REFUSALS.keys() - {"lease"})


@contextmanager
def service_at(directory: Path) -> Iterator[Service]:
    service = Service(
        directory,
        {
            "stores": {
                "local": {"type": "file", "path": str(directory / "images")},
                "web": {"type": "http", "weight": -1},
            },
            "import": {"filter": {"allowed_ports": [], "cidrs": ["127.0.0.1/32"]}},
        },
    )
    service.make_tables()
    try:
        yield service.start()
    finally:
        service.end()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with service_at(tmp_path_factory.mktemp("refusing")) as started:
        yield started


@pytest.fixture
def client(service: Service) -> Client:
    return service.client


@contextmanager
def refusing(service: Service, event: str) -> Iterator[None]:
    """Let the database refuse something while the block runs."""
    refuse = f"CREATE TRIGGER refusal {event} BEGIN SELECT RAISE(ABORT, 'refused'); END"
    with closing(sqlite3.connect(service.database, timeout=60)) as connection:
        connection.execute(refuse)
        connection.commit()
        try:
            yield
        finally:
            connection.execute("DROP TRIGGER refusal")
            connection.commit()


def assert_queued(service: Service, image_id: str) -> None:
    assert service.client.show(image_id)["status"] == "queued"
    assert service.rows("SELECT * FROM imgsvc_leases") == []
    assert service.rows("SELECT * FROM image_locations WHERE image_id = ?", image_id) == []
    assert service.files() == {}


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
@pytest.mark.parametrize("where", AT_ONCE)
def test_upload_is_given_up_at_once(
    service: Service, client: Client, where: str, chunked: bool
) -> None:
    image_id = client.create()
    data = b"bytes" * 100_000
    with refusing(service, REFUSALS[where]):
        reply = client.upload(image_id, iter([data]) if chunked else data)
        assert reply.status == 500, reply
        assert_queued(service, image_id)
    assert client.upload(image_id, data).status == 204
    assert client.download(image_id).body == data
    assert client.delete(f"/v2/images/{image_id}").status == 204


@pytest.mark.parametrize("where", AT_ONCE)
def test_reading_of_a_location_is_given_up_at_once(
    service: Service, client: Client, where: str
) -> None:
    with origin() as web:
        url = web.put("/disk.raw", b"elsewhere" * 1000)
        image_id = client.create()
        with refusing(service, REFUSALS[where]):
            reply = client.post(f"/v2/images/{image_id}/locations", {"url": url})
            assert reply.status == 500, reply
            assert_queued(service, image_id)
        reply = client.post(f"/v2/images/{image_id}/locations", {"url": url})
        assert reply.status == 202, reply
        assert client.show(image_id)["status"] == "active"
        assert client.delete(f"/v2/images/{image_id}").status == 204


def test_giving_up_that_fails_is_left_to_recovery(tmp_path: Path) -> None:
    with service_at(tmp_path) as service:
        image_ids = [service.client.create() for _ in range(2)]
        with refusing(service, REFUSALS["lease"]):
            for image_id in image_ids:
                assert service.client.upload(image_id, b"bytes").status == 500
                assert service.client.show(image_id)["status"] == "saving"
        assert (
            f"Image {image_ids[0]}: cleanup after its upload postponed" in service.log.read_text()
        )
        service.kill()
        service.start()
        wait_until(lambda: service.is_at_rest())
        for image_id in image_ids:
            assert_queued(service, image_id)
            assert service.client.upload(image_id, b"bytes").status == 204
            assert service.client.delete(f"/v2/images/{image_id}").status == 204


def test_a_lease_that_cannot_be_settled_keeps_no_other_waiting(tmp_path: Path) -> None:
    with service_at(tmp_path) as service:
        first, second = (service.client.create() for _ in range(2))
        with refusing(service, REFUSALS["lease"]):
            for image_id in (first, second):
                assert service.client.upload(image_id, b"bytes").status == 500
        service.kill()
        only = f"BEFORE DELETE ON imgsvc_leases WHEN OLD.image_id = '{first}'"
        with refusing(service, only):
            service.start()
            wait_until(lambda: service.client.show(second)["status"] == "queued")
            assert service.client.show(first)["status"] == "saving"


@ensureDeferred
async def test_a_cleanup_that_fails_again_and_again_is_told_of_once(tmp_path: Path) -> None:
    with service_at(tmp_path) as service:
        image_id = service.client.create()
        with refusing(service, REFUSALS["lease"]):
            assert service.client.upload(image_id, b"bytes").status == 500
        said = f"Image {image_id}: cleanup after its upload postponed: IntegrityError"
        assert service.log.read_text().count(said) == 1
        service.kill()
        components = build(load(service.config), reactor).components
        engine = next(one.engine for one in components if isinstance(one, BackgroundJobs))
        with log_lines() as told, refusing(service, "BEFORE DELETE ON imgsvc_leases"):
            for attempts in (1, 2, 3):
                await engine.poll()
                await engine.idle()
                assert service.rows("SELECT attempts FROM imgsvc_leases") == [(attempts,)]
                let_it_be_due(service)
            assert told == []  # the process that failed first has told it for all
        with log_lines() as told:
            await engine.poll()
            await engine.idle()
            assert told == [
                f"Image {image_id}: cleanup after its upload done",
                "Finished 1 background job(s)",
            ]
        for component in reversed(components):
            await component.stop()


def let_it_be_due(service: Service) -> None:
    """Let every job be tried again now."""
    with closing(sqlite3.connect(service.database, timeout=60)) as connection:
        connection.execute("UPDATE imgsvc_leases SET not_before = created_at")
        connection.commit()
