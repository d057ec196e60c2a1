"""Dependencies fail and work again: what is logged and shown, and how often."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.process.observed import ObservedService, observed, server_options
from tests.real.service import missing, running, wait_until
from tests.real.troubles import details, readiness, status, told_troubles
from tests.servers import Server

PASSWORD = "pa55word"
OFTEN = {"healthcheck": {"interval": 0.3}}


@pytest.mark.parametrize(("kind", "workers"), [("postgresql", 2), ("mariadb", 0)])
def test_the_database_is_away_for_a_while(
    request: pytest.FixtureRequest, tmp_path: Path, kind: str, workers: int
) -> None:
    server: Server = request.getfixturevalue(kind)
    name = f"troubles{workers}"
    url = sa.make_url(server.create(name))
    if kind == "postgresql":  # which needs no password
        url = url.set(password=PASSWORD)
    place = f"127.0.0.1:{url.port}/{name}"
    database = {"url": url.render_as_string(hide_password=False), "connect_timeout": 2}
    service = ObservedService(tmp_path, {**server_options(workers), **OFTEN, "database": database})
    try:
        service.start()
        service.until(workers or 1)
        client = service.client
        wait_until(lambda: readiness(client) == (200, []))
        with server.away():
            wait_until(lambda: readiness(client) == (503, ["database"]))  # without any request
            assert client.get("/healthcheck").status == 200
            wait_until(lambda: place in details(client))
            assert {client.get("/v2/images").status for _ in range(5)} == {503}
            wait_until(lambda: service.state()["troubles"])
            code, shown = status(service)
            assert code == 1 and f"Database {place} fails since" in shown
        wait_until(lambda: readiness(client) == (200, []))
        wait_until(lambda: not service.state()["troubles"])
        assert client.get("/v2/images").status == 200
        wait_until(lambda: len(told_troubles(service)) >= 2)
    finally:
        service.end()
    begin, end = told_troubles(service)
    assert f" error Database {place} fails: " in begin and ", retrying)" in begin
    assert f" warn Database {place} works again after " in end
    assert PASSWORD not in service.log.read_text()


@contextmanager
def small_file_system(directory: Path) -> Iterator[None]:
    directory.mkdir()
    if os.geteuid() != 0:
        pytest.skip("only root can mount the small file system that this needs")
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "imgservice-test", str(directory)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        missing("mounting is not allowed here")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(directory)], check=True)


def test_the_directory_of_the_store_is_gone_for_a_while(tmp_path: Path) -> None:
    with observed(tmp_path, {**server_options(2), **OFTEN}) as service:
        client, away = service.client, tmp_path / "away"
        service.store.rename(away)
        wait_until(lambda: readiness(client) == (503, ["store local"]))
        assert client.get("/healthcheck").status == 200
        assert str(service.store) not in client.get("/healthcheck/ready").body.decode()
        assert client.upload(client.create(), b"x").status == 503
        assert not service.store.exists()  # another file system may be missing there
        wait_until(lambda: service.state()["troubles"])
        away.rename(service.store)
        wait_until(lambda: readiness(client) == (200, []))
        wait_until(lambda: not service.state()["troubles"])
        assert client.upload(client.create(), b"x").status == 204
    begin, end = told_troubles(service)
    assert f" error Store local at {service.store} fails: No such file or directory" in begin
    assert f" warn Store local at {service.store} works again after " in end


def test_the_store_is_full_and_then_read_only(tmp_path: Path) -> None:
    with small_file_system(tmp_path / "images"), running(tmp_path, OFTEN) as service:
        client, filler = service.client, service.store / "filler"
        filler.write_bytes(bytes(1_000_000))
        wait_until(lambda: readiness(client) == (503, ["store local"]))
        assert client.upload(client.create(), iter([bytes(100_000)])).status == 413
        assert "No space left on device" in details(client)
        filler.unlink()
        wait_until(lambda: readiness(client) == (200, []))
        remount = ["mount", "-o", "remount,ro", str(service.store)]
        subprocess.run(remount, check=True)
        wait_until(lambda: readiness(client) == (503, ["store local"]))
        assert client.upload(client.create(), b"x").status == 503
        subprocess.run([*remount[:2], "remount,rw", remount[-1]], check=True)
        wait_until(lambda: readiness(client) == (200, []))
        assert client.upload(client.create(), b"x").status == 204
        wait_until(lambda: len(told_troubles(service)) == 4)
        first, _, second, _ = told_troubles(service)
        assert "No space left on device" in first and "Read-only file system" in second


def test_what_no_upload_can_have_is_no_trouble(tmp_path: Path) -> None:
    with small_file_system(tmp_path / "images"), running(tmp_path, OFTEN) as service:
        client = service.client
        assert client.upload(client.create(), bytes(2_000_000)).status == 413
        assert readiness(client) == (200, [])
    assert told_troubles(service) == []


def test_a_store_beside_the_default_one_takes_nobody_out_of_the_rotation(tmp_path: Path) -> None:
    stores = {name: {"type": "file", "path": str(tmp_path / name)} for name in ("images", "copies")}
    options = {**OFTEN, "stores": stores, "default_store": "images"}
    with running(tmp_path, options) as service:
        client = service.client
        (tmp_path / "copies").rename(tmp_path / "away")
        wait_until(lambda: "Store copies at" in details(client))
        assert readiness(client) == (200, [])
        wait_until(lambda: "Store copies at" in status(service)[1])
        assert status(service)[0] == 0
        for header in ("X-Forwarded-For", "Forwarded", "Via", "Host"):  # not for other machines
            shown = client.get("/healthcheck?detailed", **{header: "for.192.0.2.1.example"})
            assert (shown.status, shown.json()) == (200, {"ready": True, "failing": []})
