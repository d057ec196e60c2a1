"""A service whose images are in S3: a real Swift's."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests import swift
from tests.real.service import IMGSERVICE, Service, wait_until

MIB = 1 << 20
DATA = bytes(range(256)) * (12 * MIB // 256)


class ServiceWithS3(Service):
    """A service with one store, of type s3."""

    def __init__(self, directory: Path, server: swift.Swift, more: dict[str, Any]) -> None:
        super().__init__(directory, more)
        self.server = server

    @property
    def bucket(self) -> str:
        name: str = self.options["stores"]["away"]["bucket"]
        return name

    def files(self) -> dict[str, int]:
        """Return the keys of all objects, and of those that have parts."""
        names = self.server.objects(self.bucket)
        return {name.removeprefix("+segments/").partition("/")[0]: 0 for name in names}


@contextmanager
def running(directory: Path, server: swift.Swift, more: dict[str, Any]) -> Iterator[ServiceWithS3]:
    """Run a service while the block runs, then stop it and see that it leaves nothing behind."""
    service = ServiceWithS3(directory, server, more)
    service.make_tables()
    try:
        service.start()
        yield service
        service.stop()
    finally:
        service.end()


def options(server: swift.Swift, secret_key: str = swift.KEY, **more: Any) -> dict[str, Any]:
    store = {
        "type": "s3",
        "host": server.url,
        "bucket": server.container(),
        "access_key": swift.USER,
        "secret_key": secret_key,
        "multipart_from": 0,
        "part_size": "5MiB",
        "timeout": 3,
        **more,
    }
    return {
        "stores": {"away": store},
        "default_store": "away",
        "healthcheck": {"interval": 1},
        "locations": {"show": True},
    }


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[swift.Swift]:
    with swift.started(tmp_path_factory.mktemp("swift")) as started:
        yield started


@pytest.fixture(scope="module")
def service(
    tmp_path_factory: pytest.TempPathFactory, server: swift.Swift
) -> Iterator[ServiceWithS3]:
    with running(tmp_path_factory.mktemp("service"), server, options(server)) as service:
        yield service


def test_the_life_of_an_image(service: ServiceWithS3, server: swift.Swift) -> None:
    client, bucket = service.client, service.bucket
    image_id = client.active(DATA)
    shown = client.show(image_id)
    assert (shown["size"], shown["stores"]) == (len(DATA), "away")
    url = f"s3://127.0.0.1:{server.port}/{bucket}/{image_id}"
    assert [one["url"] for one in shown["locations"]] == [url]
    assert client.download(image_id).body == DATA
    part = client.download(image_id, Range="bytes=5242870-5242890")
    assert (part.status, part.body) == (206, DATA[5242870:5242891])
    assert client.delete(f"/v2/images/{image_id}").status == 204
    assert server.objects(bucket) == []


def test_an_upload_that_is_refused_leaves_no_parts(
    service: ServiceWithS3, server: swift.Swift
) -> None:
    client = service.client
    image_id = client.create(disk_format="iso")
    assert client.upload(image_id, DATA).status == 415
    assert client.show(image_id)["status"] == "queued"
    assert server.objects(service.bucket) == []


def test_options_are_shown_to_administrators(service: ServiceWithS3) -> None:
    [store] = service.client.get("/v2/info/stores/detail").json()["stores"]
    assert store["properties"] == {
        "s3_store_large_object_size": 0,
        "s3_store_large_object_chunk_size": 5 * MIB,
        "s3_store_thread_pools": 10,
    }


def test_check_says_what_is_wrong_without_keys(tmp_path: Path, server: swift.Swift) -> None:
    wrong = options(server, "a-wrong-key", create_bucket=True)
    config = tmp_path / "imgservice.yaml"
    database = f"sqlite:///{tmp_path}/imgservice.db"
    config.write_text(json.dumps({**wrong, "database": {"url": database}}))
    command: list[str | Path] = [IMGSERVICE, "check", "--config", config]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "imgservice.yaml:1: stores.away: Store away: status 403" in done.stderr
    assert "a-wrong-key" not in done.stdout + done.stderr


def test_a_server_that_goes_and_comes_back(tmp_path: Path, server: swift.Swift) -> None:
    """The service starts without it, tells it once, and cleans up what it could not at the time."""
    server.kill()
    with running(tmp_path, server, options_of_a_killed(server)) as service:
        client = service.client
        wait_until(lambda: "fails: " in service.output.read_text())
        image_id = client.create()
        assert client.upload(image_id, DATA).status == 503
        server.start()
        wait_until(lambda: "works again" in service.output.read_text())
        wait_until(lambda: client.show(image_id)["status"] == "queued")
        assert client.upload(image_id, DATA).status == 204
        server.kill()
        other = client.create()
        assert client.upload(other, DATA).status == 503
        server.start()
        wait_until(lambda: client.show(other)["status"] == "queued")
        assert client.download(image_id).body == DATA
        # The probe may just have its own object there.
        wait_until(lambda: set(service.files()) == {image_id})
    assert swift.KEY not in service.output.read_text() + service.said.read_text()


def options_of_a_killed(server: swift.Swift) -> dict[str, Any]:
    """Return options whose bucket is not there yet."""
    server.start()
    made = options(server, bucket="made-later", create_bucket=True)
    server.kill()
    return made
