"""Uploads and downloads of clients that are too slow: they end, and disturb nobody."""

import socket
import time
from contextlib import suppress
from pathlib import Path

from tests.real.client import receive
from tests.real.service import running, wait_until
from tests.real.streams import begin_download, upload_head

SLOW = 20
"""Clients of each kind."""
LIMITS = {"server": {"min_rate": 10_000, "min_rate_time": 1}}


def _is_over(connection: socket.socket) -> bool:
    """Tell whether the service has answered or ended the connection; else send a little more."""
    connection.setblocking(False)
    try:
        connection.send(b"x")
        connection.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def test_slow_uploads_are_given_up(tmp_path: Path) -> None:
    with running(tmp_path, LIMITS) as service:
        client = service.client
        memory = service.measure("VmRSS")
        image_ids = [client.create() for _ in range(SLOW)]
        uploads = [client.connect() for _ in image_ids]
        for upload, image_id in zip(uploads, image_ids, strict=True):
            upload.sendall(upload_head(image_id, "Content-Length: 100000") + b"x")
        deadline, over = time.monotonic() + 120, set[int]()
        while len(over) < SLOW:
            assert time.monotonic() < deadline, f"{len(over)} of {SLOW} were given up"
            assert client.download(client.active(b"good")).body == b"good"
            over |= {n for n, one in enumerate(uploads) if n not in over and _is_over(one)}
            time.sleep(0.1)
        for upload in uploads:
            upload.settimeout(60)
            assert receive(upload).status == 408
            upload.close()
        wait_until(lambda: {client.show(one)["status"] for one in image_ids} == {"queued"})
        assert client.upload(image_ids[0], b"whole").status == 204
        assert service.measure("VmRSS") - memory < 20_000


def test_slow_downloads_are_cut(tmp_path: Path) -> None:
    with running(tmp_path, LIMITS) as service:
        client = service.client
        image_id = client.active(bytes(32 << 20))
        descriptors = service.descriptors()
        downloads = [begin_download(client, image_id, buffer=4096) for _ in range(SLOW)]
        assert client.download(image_id).status == 200
        wait_until(lambda: service.log.read_text().count("aborted") >= SLOW)
        wait_until(lambda: service.descriptors() <= descriptors)
        for download in downloads:
            assert _rest(download) < 32 << 20
            download.close()


def _rest(download: socket.socket) -> int:
    """Count what still comes before the end, which may be a reset."""
    download.settimeout(60)
    total = 0
    with suppress(ConnectionError):
        while piece := download.recv(1 << 20):
            total += len(piece)
    return total
