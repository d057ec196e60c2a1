"""Limits on what projects have, over HTTP."""

import random
import socket
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import attrs
import pytest
import yaml

from tests.origin import origin
from tests.real.client import Client, Reply, receive
from tests.real.roles import caller, trusting
from tests.real.service import Service, running, wait_until
from tests.real.streams import upload_head
from tests.real.test_locations import add as add_location
from tests.real.test_locations import adding, change, started

MIB = 1 << 20
BLOCK = MIB
"""Bytes of an upload that go to the store at once."""
MANY, FITTING = 50, 10
CHARGED = (
    "SELECT (SELECT coalesce(sum(i.size), 0) FROM images i JOIN image_locations l"
    " ON l.image_id = i.id WHERE i.status NOT IN ('deleted', 'killed', 'pending_delete')"
    " AND l.status != 'deleted'), (SELECT coalesce(sum(reserved), 0) FROM imgsvc_leases)"
)


def usage(client: Client) -> Any:
    reply = client.get("/v2/info/usage")
    assert reply.status == 200, reply
    return {name: (one["usage"], one["limit"]) for name, one in reply.json()["usage"].items()}


def refused(reply: Reply, *words: str) -> None:
    assert reply.status == 413, reply
    for word in words:
        assert word in reply.body.decode(), reply.body


# -- one after the other --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    projects = {
        "default": {
            "image_size_total": "3MiB",
            "image_count_total": 3,
            "image_count_uploading": 1,
        },
        "overrides": {"large": {"image_stage_total": "5GB"}, "nothing": {"image_count_total": 0}},
    }
    directory = tmp_path_factory.mktemp("quotas")
    with trusting(directory, limits={"projects": projects}) as started:
        yield started


def test_usage_and_limits_are_told(service: Service) -> None:
    client = caller(service, "told")
    assert usage(client) == {
        "image_size_total": (0, 3),
        "image_stage_total": (0, -1),
        "image_count_total": (0, 3),
        "image_count_uploading": (0, 1),
    }
    client.active(bytes(3 * MIB // 2))
    client.create()
    assert usage(client)["image_size_total"] == (1, 3)
    assert usage(client)["image_count_total"] == (2, 3)
    assert usage(caller(service, "other"))["image_count_total"] == (0, 3)


def test_an_override_replaces_all_of_the_default(service: Service) -> None:
    client = caller(service, "large")
    for _ in range(4):
        client.active(bytes(MIB))
    assert usage(client) == {
        "image_size_total": (4, -1),
        "image_stage_total": (0, 4768),
        "image_count_total": (4, -1),
        "image_count_uploading": (0, -1),
    }


def test_cve_2016_8611_images_that_are_only_records_are_counted(service: Service) -> None:
    client = caller(service, "counted")
    first = client.create()
    client.create()
    client.create()
    document = {"name": "one too many", "id": "6f2b5a0e-3f0a-4c7a-9d5c-0d1c8e2f4b11"}
    reply = client.post("/v2/images", document)
    refused(
        reply,
        "Project counted is over a limit for [Resource image_count_total is over limit of 3 due to"
        " current usage 3 and delta 1]",
    )
    assert service.rows("SELECT id FROM images WHERE id = ?", document["id"]) == []
    assert client.delete(f"/v2/images/{first}").status == 204
    assert client.post("/v2/images", document).status == 201
    refused(caller(service, "nothing").post("/v2/images", {}))


def test_deleting_makes_room(service: Service) -> None:
    client = caller(service, "room")
    first, second = client.active(bytes(2 * MIB)), client.create()
    refused(
        client.upload(second, bytes(2 * MIB)),
        "image_size_total is over limit of 3 MiB due to current usage 2 MiB and delta 2 MiB",
    )
    assert client.show(second)["status"] == "queued"
    assert second not in service.files()
    assert client.delete(f"/v2/images/{first}").status == 204
    assert client.upload(second, bytes(3 * MIB)).status == 204
    refused(client.upload(client.create(), b"x"))
    assert usage(client)["image_size_total"] == (3, 3)


def test_what_may_not_be_done_anyway_tells_no_numbers(service: Service) -> None:
    owner, other = caller(service, "secretive"), caller(service, "curious")
    image_id = owner.active(bytes(3 * MIB))
    assert other.upload(image_id, bytes(4 * MIB)).status == 404
    reader = caller(service, "secretive", "reader")
    assert reader.upload(owner.create(), bytes(4 * MIB)).status == 403


def test_an_upload_of_unknown_size_ends_where_the_limit_is(service: Service) -> None:
    client = caller(service, "chunked")
    image_id = client.create()

    def body() -> Iterator[bytes]:
        for _ in range(10):
            yield bytes(MIB)
        wait_until(lambda: reserved(service, "chunked") == 0)  # though there is more to come
        assert not [name for name in service.files() if image_id in name]
        yield bytes(MIB)

    refused(client.upload(image_id, body()), "image_size_total is over limit of 3")
    assert client.show(image_id)["status"] == "queued"
    assert image_id not in service.files()
    assert client.upload(image_id, iter([bytes(2 * MIB), bytes(MIB)])).status == 204


def test_no_more_than_so_many_uploads(service: Service) -> None:
    client = caller(service, "uploading")
    one, two = client.create(), client.create()
    with half_sent(client, one, MIB) as connection:
        wait_until(lambda: usage(client)["image_count_uploading"] == (1, 1))
        refused(
            client.upload(two, b"x"),
            "Resource image_count_uploading is over limit of 1 due to current usage 1 and delta 1",
        )
        assert client.show(two)["status"] == "queued"
        connection.sendall(bytes(MIB // 2))
        assert receive(connection).status == 204
    assert client.upload(two, b"x").status == 204


@contextmanager
def half_sent(
    client: Client, image_id: str, size: int, sent: int | None = None
) -> Iterator[socket.socket]:
    with client.connect() as connection:
        fields = [f"{name}: {value}" for name, value in client.headers.items()]
        connection.sendall(upload_head(image_id, f"Content-Length: {size}", *fields))
        connection.sendall(bytes(size // 2 if sent is None else sent))
        yield connection


# -- escapes --------------------------------------------------------------------------------------


def test_cve_2014_9623_deleting_images_in_the_middle_of_uploads_gains_nothing(
    service: Service,
) -> None:
    """Also CVE-2015-5286: what is on its way is charged until none of it is left."""
    client = caller(service, "deleter")
    image_id, other = client.create(), client.create()
    with half_sent(client, image_id, 3 * MIB, BLOCK) as connection:
        # An upload looks whether its image is gone when a block has come: let that be before.
        wait_until(lambda: stored(service, image_id) == BLOCK)
        assert client.delete(f"/v2/images/{image_id}").status == 204
        assert reserved(service, "deleter") == 3 * MIB
        refused(client.upload(other, b"x"))
        with suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(bytes(3 * MIB - BLOCK))
        assert receive(connection).status == 410
    wait_until(lambda: reserved(service, "deleter") == 0)
    assert not [name for name in service.files() if image_id in name]
    assert client.upload(other, bytes(3 * MIB)).status == 204


def test_cve_2015_5286_uploads_that_are_given_up_gain_nothing(service: Service) -> None:
    client = caller(service, "leaver")
    image_id = client.create()
    for _ in range(5):
        with half_sent(client, image_id, 3 * MIB):
            wait_until(lambda: reserved(service, "leaver") == 3 * MIB)
        wait_until(lambda: reserved(service, "leaver") == 0)
        wait_until(lambda: client.show(image_id)["status"] == "queued")
    assert not [name for name in service.files() if image_id in name]
    assert client.upload(image_id, bytes(3 * MIB)).status == 204


def stored(service: Service, image_id: str) -> int:
    return sum(size for name, size in service.files().items() if image_id in name)


def reserved(service: Service, project: str) -> int:
    query = "SELECT coalesce(sum(reserved), 0) FROM imgsvc_leases WHERE project = ?"
    [(amount,)] = service.rows(query, project)
    return int(amount)


def test_whose_the_image_is_is_charged(service: Service) -> None:
    admin = caller(service, "ops", "admin,member,reader")
    given = admin.active(bytes(2 * MIB), owner="given")
    assert admin.show(given)["owner"] == "given"
    refused(caller(service, "given").upload(caller(service, "given").create(), bytes(2 * MIB)))
    assert usage(admin)["image_size_total"] == (0, 3)


def test_images_of_nobody_are_not_limited(service: Service) -> None:
    admin = caller(service, "ops", "admin,member,reader")
    for _ in range(4):
        reply = admin.post(
            "/v2/images",
            {"owner": None, "disk_format": "raw", "container_format": "bare"},
        )
        assert reply.status == 201, reply
        assert admin.upload(reply.json()["id"], bytes(MIB)).status == 204


# -- locations ------------------------------------------------------------------------------------


@pytest.mark.parametrize("secure_hash", [True, False])
def test_data_that_lies_elsewhere_is_charged(tmp_path: Path, secure_hash: bool) -> None:
    limits = {"projects": {"default": {"image_size_total": "3MiB"}}}
    locations = {"secure_hash": secure_hash}
    with origin() as web, started(tmp_path, limits=limits, locations=locations) as service:
        url = web.put("/disk.raw", random.Random(1).randbytes(2 * MIB))
        client = caller(service, "p", "service,member,reader")
        one, two = client.create(), client.create()
        assert add_location(client, one, url).status == 202
        assert usage(client)["image_size_total"] == (2, 3)
        refused(add_location(client, two, url), "current usage 2 MiB and delta 2 MiB")
        assert client.show(two)["status"] == "queued"
        refused(change(client, two, adding(url)), "current usage 2 MiB and delta 2 MiB")
        assert client.show(two)["locations"] == []
        other = web.put("/copy.raw", random.Random(1).randbytes(2 * MIB))
        admin = caller(service, "p", "admin,member,reader")
        refused(change(admin, one, adding(other)), "current usage 2 MiB and delta 2 MiB")
        assert client.delete(f"/v2/images/{one}").status == 204
        assert change(client, two, adding(url)).status == 200
        assert usage(client)["image_size_total"] == (2, 3)


# -- the one limit on storage ---------------------------------------------------------------------


def test_the_same_storage_for_every_project(tmp_path: Path) -> None:
    with trusting(tmp_path, limits={"user_storage": 1_000_000}) as service:
        client, other = caller(service, "one"), caller(service, "two")
        client.active(bytes(600_000))
        image_id = client.create()
        words = "The size of the data {} bytes will exceed the limit. {} bytes remaining."
        refused(client.upload(image_id, bytes(400_001)), words.format(400001, 400000))
        refused(client.upload(image_id, iter([bytes(500_000)])), "400000 bytes remaining.")
        assert client.upload(image_id, iter([bytes(400_000)])).status == 204
        refused(client.upload(client.create(), b"x"), words.format(1, 0))
        refused(client.upload(client.create(), iter([b"x"])), words.format(1, 0))
        other.active(bytes(1_000_000))
        assert client.get("/v2/info/usage").json() == {"usage": {}}


def test_no_limits_no_rows_and_no_usage(tmp_path: Path) -> None:
    with running(tmp_path) as service:
        service.client.active(b"data")
        assert service.client.get("/v2/info/usage").json() == {"usage": {}}
        assert service.rows("SELECT * FROM imgsvc_projects") == []


# -- over time ------------------------------------------------------------------------------------


def test_a_lower_limit_takes_nothing_away(tmp_path: Path) -> None:
    service = Service(tmp_path, limits(image_size_total="4MiB"))
    try:
        client = service.start().client
        kept, gone, waiting = (
            client.active(bytes(2 * MIB)),
            client.active(bytes(MIB)),
            client.create(),
        )
        service.stop()
        restrict(service, image_size_total="1MiB", image_count_total=1)
        service.start()
        assert usage(client)["image_size_total"] == (3, 1)
        assert client.download(kept).body == bytes(2 * MIB)
        refused(client.upload(waiting, b"x"))
        refused(client.post("/v2/images", {}))
        for image_id in (kept, gone):
            assert client.delete(f"/v2/images/{image_id}").status == 204
        assert client.upload(waiting, bytes(MIB)).status == 204
        service.stop()
    finally:
        service.end()


def test_what_a_crash_has_reserved_is_free_again(tmp_path: Path) -> None:
    service = Service(tmp_path, limits(image_size_total="4MiB", image_count_uploading=1))
    try:
        client = service.start().client
        image_id = client.create()
        with half_sent(client, image_id, 4 * MIB):
            wait_until(lambda: service.rows("SELECT reserved FROM imgsvc_leases") == [(4 * MIB,)])
            wait_until(lambda: bool(service.files()))
            service.kill()
        service.start()
        wait_until(service.is_at_rest)
        assert service.files() == {}
        assert client.upload(image_id, bytes(4 * MIB)).status == 204
        service.stop()
    finally:
        service.end()


def limits(**default: Any) -> dict[str, Any]:
    return {"limits": {"projects": {"default": default}}}


def restrict(service: Service, **default: Any) -> None:
    service.config.write_text(yaml.safe_dump({**service.options, **limits(**default)}))


# -- at the same time -----------------------------------------------------------------------------


@attrs.define
class Watch(threading.Thread):
    """Looks again and again whether more is charged than may be."""

    service: Service
    most: int
    worst: int = 0
    looks: int = 0
    enough: threading.Event = attrs.field(factory=threading.Event)

    def __attrs_pre_init__(self) -> None:
        super().__init__()

    def __hash__(self) -> int:
        return id(self)

    def run(self) -> None:
        while not self.enough.wait(0.01):
            [(stored, charged)] = self.service.rows(CHARGED)
            self.worst, self.looks = max(self.worst, stored + charged), self.looks + 1

    def __enter__(self) -> "Watch":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.enough.set()
        self.join()
        assert self.looks > 3
        assert self.worst <= self.most


def upload_all(
    clients: Sequence[Client], image_ids: Sequence[str], size: int, chunked: bool
) -> list[int]:
    """Upload to all images at once, all of them half sent before any goes on; return answers."""
    halfway = threading.Barrier(len(image_ids))
    statuses = [0] * len(image_ids)

    def upload(number: int, client: Client) -> None:
        field = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {size}"
        with client.connect() as connection:
            connection.sendall(upload_head(image_ids[number], field))
            for last in (False, True):
                with suppress(BrokenPipeError, ConnectionResetError):
                    connection.sendall(piece(size // 2, chunked, last))
                if not last:
                    halfway.wait(120)
            statuses[number] = receive(connection).status

    threads = [
        threading.Thread(target=upload, args=(number, clients[number % len(clients)]))
        for number in range(len(image_ids))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return statuses


def piece(size: int, chunked: bool, last: bool) -> bytes:
    if not chunked:
        return bytes(size)
    return b"%x\r\n" % size + bytes(size) + b"\r\n" + (b"0\r\n\r\n" if last else b"")


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_fifty_uploads_where_ten_fit(tmp_path: Path, chunked: bool, processes: int) -> None:
    size = MIB if chunked else 200_000
    with several(tmp_path, processes, image_size_total=FITTING * size) as services:
        service, clients = services[0], [each.client for each in services]
        image_ids = [clients[0].create() for _ in range(MANY)]
        with Watch(service, FITTING * size):
            statuses = upload_all(clients, image_ids, size, chunked)
        wait_until(service.is_at_rest)
        answers = Counter(statuses)
        assert set(answers) == {204, 413}
        if chunked:  # nobody knows in advance which of them would fit
            assert FITTING // 2 <= answers[204] <= FITTING
        else:
            assert answers[204] == FITTING
        taken = {i for i, status in zip(image_ids, statuses, strict=True) if status == 204}
        assert service.files() == dict.fromkeys(taken, size)
        found = dict(service.rows("SELECT id, status FROM images"))
        assert found == {i: "active" if i in taken else "queued" for i in image_ids}
        [(stored, left)] = service.rows(CHARGED)
        assert (stored, left) == (len(taken) * size, 0)
        # What was refused by a hair's breadth is taken when there is room.
        for image_id in taken:
            assert clients[0].delete(f"/v2/images/{image_id}").status == 204
        again = [i for i in image_ids if i not in taken][:FITTING]
        for image_id in again:
            assert clients[-1].upload(image_id, bytes(size)).status == 204


@pytest.mark.parametrize("processes", [1, 2])
def test_fifty_images_where_ten_fit(tmp_path: Path, processes: int) -> None:
    with several(tmp_path, processes, image_count_total=FITTING) as services:
        statuses: list[int] = []

        def create(client: Client) -> None:
            statuses.append(client.post("/v2/images", {}).status)

        threads = [
            threading.Thread(target=create, args=(services[number % processes].client,))
            for number in range(MANY)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert Counter(statuses) == {201: FITTING, 413: MANY - FITTING}
        assert services[0].rows("SELECT count(*) FROM images") == [(FITTING,)]


@contextmanager
def several(directory: Path, processes: int, **default: Any) -> Iterator[list[Service]]:
    """Run services that share a database and a store."""
    services: list[Service] = []
    try:
        for number in range(processes):
            home = directory / str(number)
            home.mkdir()
            options = limits(**default)
            if services:
                first = services[0].options
                options |= {"database": first["database"], "stores": first["stores"]}
            service = Service(home, options)
            service.store = directory / "0" / "images"
            service.database = directory / "0" / "imgservice.db"
            services.append(service.start())
        yield services
        for service in services:
            service.stop()
    finally:
        for service in services:
            service.end()
