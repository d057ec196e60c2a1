"""A service whose wall clock is set while it works: nobody notices."""

import os
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.real.client import receive
from tests.real.service import Service, missing, wait_until
from tests.real.streams import upload_head

DAY = 86_400
TIMEOUT = 4
OPTIONS = {
    "server": {
        "idle_timeout": 60,
        "header_timeout": TIMEOUT,
        "min_rate": 1000,
        "min_rate_time": TIMEOUT,
    }
}


class SteppedService(Service):
    """Runs under libfaketime, whose offset to the real time is read from a file again and again."""

    def __init__(self, directory: Path, library: Path) -> None:
        super().__init__(directory, OPTIONS)
        self._offset = directory / "offset"
        self.set_clock(0)
        self.prefix = [
            "env",
            f"LD_PRELOAD={library}",
            f"FAKETIME_TIMESTAMP_FILE={self._offset}",
            "FAKETIME_NO_CACHE=1",
            "FAKETIME_DONT_FAKE_MONOTONIC=1",
            "NO_FAKE_STAT=1",
        ]

    def set_clock(self, seconds: int) -> None:
        """Set the wall clock to the real time and so many seconds."""
        fresh = self._offset.with_suffix(".new")
        fresh.write_text(f"{seconds:+d}\n")
        fresh.replace(self._offset)

    def tells(self) -> float:
        """Return what the service takes for the time, in seconds from now."""
        made = self.client.show(self.client.create())["created_at"]
        told = time.strptime(made, "%Y-%m-%dT%H:%M:%SZ")
        return time.mktime(told) - time.timezone - time.time()


def _library() -> Path:
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    if not found or shutil.which("faketime") is None:
        missing("libfaketime is not installed")
    return found[0]


@pytest.fixture(scope="module")
def stepped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SteppedService]:
    service = SteppedService(tmp_path_factory.mktemp("stepped"), _library())
    service.make_tables()
    try:
        service.start()
        yield service
        service.set_clock(0)
        service.stop()
    finally:
        service.end()


@pytest.mark.parametrize("step", [DAY, -DAY], ids=["forward", "back"])
def test_an_upload_goes_on_while_the_clock_is_set(stepped: SteppedService, step: int) -> None:
    """The deadlines of clients, the rate that they must keep, and leases are looked at meanwhile:
    all of them several times in these seconds."""
    stepped.set_clock(0)
    client = stepped.client
    image_id, data = client.create(), os.urandom(300_000)
    with client.connect() as upload, client.connect() as silent:
        upload.sendall(upload_head(image_id, f"Content-Length: {len(data)}"))
        silent.sendall(b"GET /v2/images HTTP/1.1\r\n")
        for number in range(30):
            if number == 10:
                stepped.set_clock(step)
                assert abs(stepped.tells() - step) < 60
            upload.sendall(data[number * 10_000 :][:10_000])
            time.sleep(0.2)
        assert receive(upload).status == 204
        wait_until(lambda: _is_closed(silent))
    assert client.download(image_id).body == data


@pytest.mark.parametrize("step", [DAY, -DAY], ids=["forward", "back"])
def test_timeouts_take_their_time_whatever_the_clock_says(
    stepped: SteppedService, step: int
) -> None:
    """Neither at once nor never: late headers are given up, and slow bodies."""
    stepped.set_clock(0)
    client = stepped.client
    image_id = client.create()
    with client.connect() as upload, client.connect() as silent:
        upload.sendall(upload_head(image_id, "Content-Length: 100000") + b"x")
        silent.sendall(b"GET /v2/images HTTP/1.1\r\n")
        began = time.monotonic()
        time.sleep(1)
        stepped.set_clock(step)
        stepped.tells()
        wait_until(lambda: _is_closed(silent))
        assert time.monotonic() - began > TIMEOUT - 1
        assert receive(upload).status == 408
        assert time.monotonic() - began > TIMEOUT - 1
    wait_until(lambda: client.show(image_id)["status"] == "queued")


def _is_closed(connection: socket.socket) -> bool:
    """Tell whether the service has ended the connection."""
    connection.setblocking(False)
    try:
        return connection.recv(1, socket.MSG_PEEK) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True
