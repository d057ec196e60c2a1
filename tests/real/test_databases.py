"""The service on database servers: everything works, and goes on when the server comes back."""

import json
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.client import HTTPException
from typing import Any

import attrs
import pytest
import sqlalchemy as sa

from tests.real.client import Client
from tests.real.roles import PATCH
from tests.real.service import Service
from tests.servers import Server

DRIVERS = {"postgresql": "postgresql+psycopg", "mariadb": "mysql+pymysql"}
POOL = 4
ENOUGH, LONG = 10, 120
"""Images to be created under load, and seconds that they may take more on a busy machine."""


@attrs.frozen
class Place:
    """A service, and the server that its database is on."""

    kind: str
    server: Server
    service: Service
    engine: Any

    @property
    def client(self) -> Client:
        return self.service.client

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with self.engine.connect() as connection:
            return [tuple(row) for row in connection.exec_driver_sql(query)]

    def unsettled(self) -> list[tuple[Any, ...]]:
        return self.rows("SELECT kind, image_id, holder FROM imgsvc_leases") + self.rows(
            "SELECT status, id, updated_at FROM images WHERE status = 'saving'"
        )

    def wait_for_rest(self, seconds: float) -> None:
        """Wait until no work is half done."""
        deadline = time.monotonic() + seconds
        while unsettled := self.unsettled():
            assert time.monotonic() < deadline, unsettled
            time.sleep(0.1)


@pytest.fixture(scope="module", params=DRIVERS)
def place(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Place]:
    server = request.getfixturevalue(request.param)
    url = server.create("service")
    engine = sa.create_engine(
        sa.make_url(url).set(drivername=DRIVERS[request.param]), poolclass=sa.NullPool
    )
    database = {"url": url, "pool": POOL, "answer_timeout": 20}
    service = Service(tmp_path_factory.mktemp(request.param), {"database": database})
    try:
        yield Place(request.param, server, service.start(), engine)
        service.signal(signal.SIGTERM)
        service.wait()
        log = service.log.read_text()
        assert "Traceback" not in log, log[log.index("Traceback") - 300 :][:4000]
    finally:
        service.end()


def patch(client: Client, image_id: str, *operations: Any) -> Any:
    body = json.dumps(operations).encode()
    return client.request("PATCH", f"/v2/images/{image_id}", body, {"Content-Type": PATCH})


def test_the_life_of_an_image(place: Place) -> None:
    client = place.client
    image_id = client.create(name="pingüino ☃ 企鹅", tags=["b", "a"], hw_disk_bus="scsi", empty="")
    assert client.upload(image_id, b"0123456789" * 1000).status == 204
    shown = client.show(image_id)
    assert (shown["name"], shown["status"], shown["size"]) == ("pingüino ☃ 企鹅", "active", 10000)
    assert (shown["hw_disk_bus"], shown["empty"], sorted(shown["tags"])) == ("scsi", "", ["a", "b"])
    assert client.download(image_id, Range="bytes=5-14").body == b"5678901234"
    changed = patch(
        client,
        image_id,
        {"op": "replace", "path": "/name", "value": "other"},
        {"op": "remove", "path": "/hw_disk_bus"},
        {"op": "add", "path": "/min_ram", "value": 2**31 - 1},
    )
    assert changed.status == 200, changed
    assert (
        patch(client, image_id, {"op": "add", "path": "/hw_disk_bus", "value": "x"}).status == 200
    )
    assert client.show(image_id)["hw_disk_bus"] == "x"
    assert client.post(f"/v2/images/{image_id}/members", {"member": "friends"}).status == 200
    assert client.post(f"/v2/images/{image_id}/actions/deactivate", {}).status in (204, 400)
    assert client.delete(f"/v2/images/{image_id}").status == 204
    assert client.get(f"/v2/images/{image_id}").status == 404
    assert client.post("/v2/images", {"id": image_id}).status == 409
    assert ("deleted",) in place.rows("SELECT status FROM images")


def test_lists_page_through_everything(place: Place) -> None:
    made = {place.client.create(name=f"paged {n}", tags=["paged"], size_class=str(n % 3))
            for n in range(12)}  # fmt: skip
    for sort in ("created_at:desc", "name:asc", "updated_at:asc,name:desc", "size:desc"):
        found: list[str] = []
        path: str | None = f"/v2/images?tag=paged&limit=5&sort={sort}"
        while path:
            page = place.client.get(path).json()
            found += [image["id"] for image in page["images"]]
            path = page.get("next")
        assert len(found) == 12 and set(found) == made, sort
    one_third = place.client.get("/v2/images?tag=paged&size_class=1").json()["images"]
    assert len(one_third) == 4
    enormous = place.client.get(f"/v2/images?tag=paged&min_ram={2**62}")
    assert enormous.status == 200 and enormous.json()["images"] == []


def work(client: Client, number: int, seen: Counter[int]) -> None:
    """Let an image live through everything, and count the answers."""

    def count(status: int) -> int:
        seen[status] += 1
        return status

    created = client.post(
        "/v2/images", {"name": f"w{number}", "disk_format": "raw", "container_format": "bare"}
    )
    if count(created.status) != 201:
        return
    image_id = created.json()["id"]
    count(client.upload(image_id, b"x" * 100_000).status)
    count(patch(client, image_id, {"op": "add", "path": "/a", "value": str(number)}).status)
    count(client.get(f"/v2/images/{image_id}").status)
    count(client.get("/v2/images?limit=3").status)
    if number % 2:
        count(client.delete(f"/v2/images/{image_id}").status)


def under_load(place: Place, seconds: float, meanwhile: Callable[[], object]) -> Counter[int]:
    """Return how often each status was answered while something happens."""
    seen: Counter[int] = Counter()
    end = time.monotonic() + seconds

    def go_on(first: int) -> None:
        number = first
        while time.monotonic() < end or (seen[201] <= ENOUGH and time.monotonic() < end + LONG):
            with suppress(OSError, HTTPException):
                work(place.client, number, seen)
            number += 1

    threads = [threading.Thread(target=go_on, args=(n * 1000,)) for n in range(6)]
    for thread in threads:
        thread.start()
    time.sleep(seconds / 4)
    meanwhile()
    for thread in threads:
        thread.join()
    return seen


def connections(place: Place) -> int:
    """Return how many connections the service has."""
    query = {
        "postgresql": "SELECT count(*) FROM pg_stat_activity WHERE datname = 'service'"
        " AND pid != pg_backend_pid()",
        "mariadb": "SELECT count(*) FROM information_schema.processlist WHERE db = 'service'"
        " AND id != connection_id()",
    }
    return int(place.rows(query[place.kind])[0][0])


GOOD = {200, 201, 204}
LATER = {404, 409}
"""What may follow when an earlier request for the same image was answered 503."""


def test_many_at_once(place: Place) -> None:
    seen = under_load(place, 2.0, lambda: None)
    assert set(seen) <= GOOD, seen
    assert connections(place) <= POOL
    place.wait_for_rest(60)


def cut(place: Place) -> None:
    if place.kind == "postgresql":
        place.rows(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = 'service' AND pid != pg_backend_pid()"
        )
        return
    with place.engine.connect() as connection:
        for (number,) in connection.exec_driver_sql(
            "SELECT id FROM information_schema.processlist WHERE db = 'service'"
            " AND id != connection_id()"
        ).all():
            with suppress(sa.exc.DBAPIError):  # gone already
                connection.exec_driver_sql(f"KILL {number}")


def cut_often(place: Place) -> None:
    for _ in range(5):
        cut(place)
        time.sleep(0.2)


def test_connections_are_cut(place: Place) -> None:
    seen = under_load(place, 3.0, lambda: cut_often(place))
    assert set(seen) <= GOOD | LATER | {503}, seen
    assert seen[201] > ENOUGH
    place.wait_for_rest(60)
    assert connections(place) <= POOL
    place.client.active(b"and now")


def test_the_server_restarts(place: Place) -> None:
    seen = under_load(place, 5.0, place.server.restart)
    assert set(seen) <= GOOD | LATER | {503}, seen
    # What was under way is settled by the service itself, without a restart.
    place.wait_for_rest(120)
    active = place.rows("SELECT id FROM images WHERE status = 'active'")
    assert {name for (name,) in active} == set(place.service.files())
    place.client.active(b"and now")
