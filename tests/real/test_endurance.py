"""Large images, many clients, bad clients and sudden death."""

import resource
import socket
import statistics
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from http.client import HTTPConnection
from itertools import cycle
from pathlib import Path

import pytest

from tests.real.client import Client, receive
from tests.real.service import Service, missing, running, wait_until
from tests.real.streams import begin_download, data, drop, upload_head

GIB = 1 << 30
MIB = 1 << 20


def reset_peak(service: Service) -> None:
    """Let VmHWM begin anew."""
    Path(f"/proc/{service.pid}/clear_refs").write_text("5")


def statuses(service: Service) -> dict[str, str]:
    return {str(key): str(value) for key, value in service.rows("SELECT id, status FROM images")}


def settled(service: Service) -> bool:
    """Tell whether no upload is under way or waits to be cleaned up."""
    return "saving" not in statuses(service).values() and not service.rows(
        "SELECT * FROM imgsvc_leases"
    )


# -- large images ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("length", "chunked", "checksum"),
    [
        (2 * GIB, False, "66081ca043a9f03acfd2b0c4200854d8"),
        (GIB // 2, True, "03dc01e136f49c9a7bc9fb5b1b800ed5"),
    ],
    ids=["two gibibytes", "chunked"],
)
def test_large_images(
    service: Service, capsys: pytest.CaptureFixture[str], length: int, chunked: bool, checksum: str
) -> None:
    """One of them has more bytes than a signed number of 32 bits can tell."""
    client = service.client
    warm = client.active(bytes(16 * MIB))
    client.download(warm)
    image_id = client.create()
    field = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {length}"
    rested, wrote = service.measure("VmRSS"), service.written()
    reset_peak(service)
    with data(length) as content, client.connect() as connection:
        began = time.monotonic()
        connection.sendall(upload_head(image_id, field))
        content.send(connection, chunked)
        assert receive(connection).status == 204
        up = time.monotonic() - began
    written = service.written() - wrote
    assert client.show(image_id)["checksum"] == checksum
    with begin_download(client, image_id) as connection:
        began, left, buffer = time.monotonic(), length, bytearray(MIB)
        while left:
            taken = drop(connection, left, buffer)
            assert taken, f"{left} bytes did not come"
            left -= taken
        down = time.monotonic() - began
    grown = service.measure("VmHWM") - rested
    with capsys.disabled():
        print(
            f"\n  {length // MIB} MiB: up {length / up / MIB:.0f} MiB/s,"
            f" down {length / down / MIB:.0f} MiB/s,"
            f" memory {rested / 1024:.0f} + {grown / 1024:.1f} MiB, wrote {written / length:.3f} x"
        )
    assert grown < 32 * 1024
    assert length <= written < length * 1.01
    assert client.delete(f"/v2/images/{image_id}").status == 204


# -- clients that misbehave -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Run a service that disconnects clients after some idle seconds."""
    with running(tmp_path_factory.mktemp("impatient"), {"server": {"idle_timeout": 6}}) as service:
        yield service


HALF = 700_000
MANNERS = ("honest", "vanishes", "resets", "falls short", "stalls", "lies", "breaks off")


class Uploader:
    """One upload, half of it sent."""

    def __init__(self, client: Client, image_id: str, manners: str) -> None:
        self.manners = manners
        self.image_id = image_id
        self.connection = client.connect()
        fields = [f"Content-Length: {2 * HALF}"]
        if manners == "lies":
            fields.append(f"x-openstack-image-size: {3 * HALF}")
        if manners == "breaks off":
            fields = ["Transfer-Encoding: chunked"]
        self.connection.sendall(upload_head(self.image_id, *fields))
        if manners == "breaks off":
            self.connection.sendall(b"%x\r\n" % (2 * HALF))
        self.connection.sendall(bytes(HALF))

    def __enter__(self) -> "Uploader":
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    def go_on(self) -> None:
        """Do what these manners demand."""
        if self.manners in ("honest", "lies"):
            self.connection.sendall(bytes(HALF))
            assert receive(self.connection).status == (204 if self.manners == "honest" else 400)
        elif self.manners == "falls short":
            self.connection.shutdown(socket.SHUT_WR)
        elif self.manners == "stalls":
            with suppress(ConnectionResetError):
                while self.connection.recv(4096):
                    pass
        elif self.manners == "resets":
            now = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, now)
        self.connection.close()


def test_fifty_uploads_of_all_manners(impatient: Service) -> None:
    client = impatient.client
    client.active(bytes(MIB))  # whatever is opened once and for all is open now
    before, open_before = statuses(impatient), impatient.descriptors()
    image_ids = [client.create() for _ in range(50)]
    with ExitStack() as stack:
        uploaders = [
            stack.enter_context(Uploader(client, image_id, manners))
            for image_id, manners in zip(image_ids, cycle(MANNERS), strict=False)
        ]
        wait_until(lambda: list(statuses(impatient).values()).count("saving") == 50)
        for uploader in sorted(uploaders, key=lambda one: one.manners == "stalls"):
            uploader.go_on()
    wait_until(lambda: settled(impatient))
    after = statuses(impatient)
    for uploader in uploaders:
        expected = "active" if uploader.manners == "honest" else "queued"
        assert after[uploader.image_id] == expected, uploader.manners
    with_data = {image_id for image_id, status in after.items() if status == "active"}
    assert set(impatient.files()) == with_data
    had_data = {image_id for image_id, status in before.items() if status == "active"}
    honest = {one.image_id for one in uploaders if one.manners == "honest"}
    assert with_data == had_data | honest
    wait_until(lambda: impatient.descriptors() <= open_before)
    for uploader in uploaders:
        if uploader.manners != "honest":
            assert client.upload(uploader.image_id, b"better now").status == 204


def test_client_that_never_sends_its_body(impatient: Service) -> None:
    image_id = impatient.client.create()
    with impatient.client.connect() as connection:
        connection.sendall(upload_head(image_id, "Content-Length: 1000"))
        began = time.monotonic()
        with suppress(ConnectionResetError):
            while connection.recv(4096):
                pass
    assert time.monotonic() - began < 60
    wait_until(lambda: settled(impatient))
    assert impatient.client.upload(image_id, b"x").status == 204


@pytest.mark.parametrize("field", [f"Content-Length: {2 * HALF}", "Transfer-Encoding: chunked"])
def test_delete_during_upload(impatient: Service, field: str) -> None:
    client = impatient.client
    image_id = client.create()
    begin, end = (b"%x\r\n" % (2 * HALF), b"\r\n0\r\n\r\n") if "chunked" in field else (b"", b"")
    with client.connect() as connection:
        connection.sendall(upload_head(image_id, field) + begin + bytes(HALF))
        wait_until(lambda: statuses(impatient)[image_id] == "saving")
        assert client.delete(f"/v2/images/{image_id}").status == 204
        connection.sendall(bytes(HALF) + end)
        assert receive(connection).status == 410
    wait_until(lambda: settled(impatient))
    assert not any(image_id in name for name in impatient.files())
    assert statuses(impatient)[image_id] == "deleted"


def test_only_one_of_many_uploads_wins(impatient: Service) -> None:
    client = impatient.client
    image_id = client.create()
    contents = [bytes([number]) * 300_000 for number in range(8)]
    found: dict[int, int] = {}

    def upload(number: int) -> None:
        found[number] = client.upload(image_id, contents[number]).status

    threads = [threading.Thread(target=upload, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    [winner] = [number for number, status in found.items() if status == 204]
    assert set(found.values()) == {204, 409}
    assert client.download(image_id).body == contents[winner]


# -- sudden death ---------------------------------------------------------------------------------


def test_killed_amid_uploads(tmp_path: Path) -> None:
    service = Service(tmp_path).start()
    try:
        client = service.client
        kept = client.active(b"kept")
        with ExitStack() as stack:
            image_ids = [client.create() for _ in range(6)]
            uploaders = [stack.enter_context(Uploader(client, one, "honest")) for one in image_ids]
            wait_until(lambda: list(statuses(service).values()).count("saving") == 6)
            wait_until(lambda: len(service.files()) == 7)
            service.kill()
        assert len(service.files()) > 1, "there is nothing to clean up"
        service.start()
        wait_until(lambda: settled(service))
        expected = dict.fromkeys((one.image_id for one in uploaders), "queued")
        assert statuses(service) == {kept: "active", **expected}
        assert set(service.files()) == {kept}
        for uploader in uploaders:
            assert client.upload(uploader.image_id, b"again").status == 204
            assert client.download(uploader.image_id).body == b"again"
        service.stop()
    finally:
        service.end()


# -- many clients ---------------------------------------------------------------------------------


class Asker(threading.Thread):
    """Asks for one image again and again, and notes how long each answer took."""

    def __init__(self, client: Client, image_id: str) -> None:
        super().__init__()
        self.seconds: list[float] = []
        self.enough = threading.Event()
        self._client = client
        self._path = f"/v2/images/{image_id}"

    def run(self) -> None:
        with closing(HTTPConnection(self._client.host, self._client.port, timeout=60)) as one:
            while not self.enough.wait(0.005):
                began = time.perf_counter()
                one.request("GET", self._path)
                with one.getresponse() as response:
                    assert response.status == 200
                    response.read()
                self.seconds.append(time.perf_counter() - began)


def test_two_hundred_slow_downloads(service: Service, capsys: pytest.CaptureFixture[str]) -> None:
    """Each takes 1 MB a second; the test reads for all of them, ten times a second."""
    client, length, pace = service.client, 4_000_000, 100_000
    image_id = client.active(bytes(length))
    caller, buffer = Asker(client, image_id), bytearray(pace)
    open_before = service.descriptors()
    with ExitStack() as stack:
        left = {
            stack.enter_context(begin_download(client, image_id, buffer=65536)): length
            for _ in range(200)
        }
        caller.start()
        try:
            turn = time.monotonic()
            while any(left.values()):
                for connection, missing_bytes in left.items():
                    if missing_bytes:
                        taken = drop(connection, missing_bytes, buffer)
                        assert taken, "a download was cut off"
                        left[connection] -= taken
                turn += 0.1
                time.sleep(max(0.0, turn - time.monotonic()))
        finally:
            caller.enough.set()
            caller.join()
    p99 = statistics.quantiles(caller.seconds, n=100)[-1]
    with capsys.disabled():
        print(f"\n  200 downloads: {len(caller.seconds)} shows, p99 {p99 * 1000:.1f} ms")
    assert len(caller.seconds) > 20
    assert statistics.median(caller.seconds) < 1.0
    wait_until(lambda: service.descriptors() <= open_before)


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 4096:
        missing("2,000 connections need more open files than are allowed here (ulimit -n)")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 4096), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_two_thousand_idle_connections(
    many_descriptors: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with running(tmp_path) as service, ExitStack() as stack:
        service.client.active(b"what is opened once and for all is open now")
        rested, open_before = service.measure("VmRSS"), service.descriptors()
        connections = [stack.enter_context(service.client.connect()) for _ in range(2000)]
        for _ in range(2):
            for connection in connections:
                connection.sendall(b"GET /healthcheck HTTP/1.1\r\nHost: localhost\r\n\r\n")
                assert receive(connection).body == b"OK"
            assert service.client.get("/v2/images").status == 200
        grown = service.measure("VmRSS") - rested
        with capsys.disabled():
            print(f"\n  2,000 connections: {grown / 2000:.1f} KiB each")
        assert grown < 100 * 1024
        stack.close()
        wait_until(lambda: service.descriptors() <= open_before)
