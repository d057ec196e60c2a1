"""How the service ends: what runs is finished, and nothing is left."""

import signal
import socket
from pathlib import Path

import pytest

from tests.process.observed import ObservedService, server_options
from tests.real.client import receive
from tests.real.service import Service, running, wait_until
from tests.real.streams import begin_download, drop, upload_head


def _ends_well(service: Service) -> None:
    assert service.wait() == -signal.SIGTERM
    service.assert_clean()


def _refuses(service: Service) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", service.port)) != 0


@pytest.mark.parametrize("workers", [0, 2], ids=["alone", "workers"])
def test_transfers_under_way_are_finished(tmp_path: Path, workers: int) -> None:
    service = ObservedService(tmp_path, server_options(workers))
    try:
        service.start()
        service.until(workers or 1)
        client, length = service.client, 32 << 20
        stored, image_id = client.active(bytes(length)), client.create()
        with (
            begin_download(client, stored, buffer=65536) as download,
            client.connect() as upload,
            client.connect() as idle,
        ):
            upload.sendall(upload_head(image_id, "Content-Length: 1000000") + bytes(400_000))
            idle.sendall(b"GET /healthcheck HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert receive(idle).body == b"OK"
            wait_until(lambda: client.show(image_id)["status"] == "saving")
            service.signal(signal.SIGTERM)
            wait_until(lambda: _refuses(service))
            assert idle.recv(1) == b""
            upload.sendall(bytes(600_000))
            answer = receive(upload)
            assert (answer.status, answer.headers["connection"]) == (204, "close")
            left, buffer = length, bytearray(1 << 20)
            while left:
                taken = drop(download, left, buffer)
                assert taken, "the download was cut off"
                left -= taken
        _ends_well(service)
        [(status,)] = service.rows("SELECT status FROM images WHERE id = ?", image_id)
        assert status == "active"
    finally:
        service.end()


def test_grace_is_limited(tmp_path: Path) -> None:
    service = Service(tmp_path, {"server": {"shutdown_grace": 1}}).start()
    try:
        image_id = service.client.create()
        with service.client.connect() as upload:
            upload.sendall(upload_head(image_id, "Content-Length: 1000000") + bytes(400_000))
            wait_until(lambda: service.client.show(image_id)["status"] == "saving")
            service.signal(signal.SIGTERM)
            _ends_well(service)
        [(status,)] = service.rows("SELECT status FROM images WHERE id = ?", image_id)
        assert status == "queued"
    finally:
        service.end()


def test_data_outlives_a_restart(tmp_path: Path) -> None:
    with running(tmp_path) as service:
        image_id = service.client.active(b"here to stay", name="kept", tags=["a"])
        shown = service.client.show(image_id)
    with running(tmp_path) as service:
        assert service.client.show(image_id) == shown
        assert service.client.download(image_id).body == b"here to stay"
