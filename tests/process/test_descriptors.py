"""A process that may open little: connections have to wait, and nothing else fails for them."""

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.real.client import receive
from tests.real.service import Service, wait_until

ASK = b"GET /healthcheck HTTP/1.1\r\nHost: localhost\r\n\r\n"
MANY = 400


@pytest.fixture
def poor(tmp_path: Path) -> Iterator[Service]:
    """A service with 300 descriptors, and at first 100."""
    service = Service(tmp_path)
    service.prefix = ("sh", "-c", 'ulimit -Sn 100; ulimit -Hn 300; exec "$@"', "sh")
    try:
        yield service.start()
        service.stop()
    finally:
        service.end()


def _used_in_a_second(service: Service) -> float:
    """Return how many seconds of the processor's time it needs in the next one."""
    used = service.cpu_seconds()
    time.sleep(1)
    return service.cpu_seconds() - used


def _limit(service: Service) -> int:
    lines = Path(f"/proc/{service.pid}/limits").read_text().splitlines()
    [limit] = [line for line in lines if line.startswith("Max open files")]
    return int(limit.split()[3])


def _has_answered(connection: socket.socket) -> bool:
    connection.setblocking(False)
    try:
        return bool(connection.recv(1, socket.MSG_PEEK))
    except BlockingIOError:
        return False


def test_more_connections_than_descriptors(poor: Service) -> None:
    client = poor.client
    assert _limit(poor) == 300
    image_id, data = client.active(b"kept"), bytes(3 << 20)
    memory = poor.measure("VmRSS")
    with ExitStack() as stack:
        good = stack.enter_context(client.connect())
        good.sendall(ASK)
        assert receive(good).status == 200
        flood = [stack.enter_context(client.connect()) for _ in range(MANY)]
        for one in flood:
            one.sendall(ASK)
        wait_until(lambda: "have to wait" in poor.log.read_text())
        wait_until(lambda: sum(map(_has_answered, flood)) >= 100)
        wait_until(lambda: _used_in_a_second(poor) < 0.5)  # it does not spin
        answered = [one for one in flood if _has_answered(one)]
        assert len(answered) < 225

        # There are descriptors left for the files of connected clients.
        head = f"GET /v2/images/{image_id}/file HTTP/1.1\r\nHost: localhost\r\n\r\n"
        for one in (good, *answered[:20]):
            one.settimeout(60)
            if one is not good:
                assert receive(one).status == 200
            one.sendall(head.encode())
            assert receive(one).body == b"kept"
        assert not any(_has_answered(one) for one in flood[-50:])

        for one in answered:
            one.close()
        for one in flood:
            if one not in answered:
                one.settimeout(60)
                assert receive(one).status == 200
                one.close()
    assert client.download(client.active(data)).body == data
    log = poor.log.read_text()
    assert "EMFILE" not in log and log.count("have to wait") == 1
    assert poor.measure("VmRSS") - memory < 20_000


def test_as_many_connections_as_are_configured(tmp_path: Path) -> None:
    service = Service(tmp_path, {"server": {"max_connections": 20}})
    try:
        client = service.start().client
        with ExitStack() as stack:
            flood = [stack.enter_context(client.connect()) for _ in range(60)]
            for one in flood:
                one.sendall(ASK)
            wait_until(lambda: sum(map(_has_answered, flood)) >= 20)
            assert sum(map(_has_answered, flood)) == 20
            for one in flood:  # as connections end, the others are accepted
                one.settimeout(60)
                assert receive(one).status == 200
                one.close()
        service.stop()
    finally:
        service.end()
