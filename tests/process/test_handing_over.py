"""A worker hands its idle connections over to a parent that is slow to take them."""

import os
import socket
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest_twisted
from twisted.internet import reactor

from imgservice.process.addresses import bind
from imgservice.process.forking import ForkServer
from imgservice.process.messages import Beat, Give, Message
from imgservice.process.worker_process import Worker
from imgservice.wiring.examination import prepare
from imgservice.wiring.load import read_setup
from imgservice.wiring.with_workers import FORK_SERVER
from tests.db.numbers import until

IDLE = 600
"""More than the kernel keeps for a process that does not read."""
EARLY = 3.0
"""Seconds that a worker has to end too early."""
REQUEST = b"GET /healthcheck HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest_twisted.ensureDeferred
async def test_a_worker_ends_when_all_that_it_gave_away_is_on_its_way(tmp_path: Path) -> None:
    config = tmp_path / "imgservice.yaml"
    config.write_text(
        "server: {listen: ['tcp:0:interface=127.0.0.1'], workers: 1, umask: null}\n"
        "auth: {mode: none}\n"
        f"database: {{url: 'sqlite:///{tmp_path}/images.db'}}\n"
        "stores: {local: {type: memory}}\ndefault_store: local\n"
    )
    setup = read_setup(config, 1)
    prepare(config, setup.config)
    given: list[int] = []

    def heard(_: Worker, message: Message, descriptors: Sequence[int]) -> None:
        assert isinstance(message, Beat | Give)
        assert not descriptors or isinstance(message, Give)
        given.extend(descriptors)

    worker, forks = Worker(reactor, 0, setup, heard), ForkServer(reactor, FORK_SERVER, ())
    with ExitStack() as stack:
        (bound,) = bind(setup.addresses[0], 1, True, None)
        stack.callback(bound.close)
        worker.start(forks, str(tmp_path / "log"), [(setup.addresses[0], bound)])
        stack.callback(worker.kill)
        await worker.ready
        await until(lambda: worker.pid)  # it may be ready before its number is known
        for _ in range(IDLE):
            client = stack.enter_context(socket.create_connection(bound.getsockname(), 60))
            client.sendall(REQUEST)
            assert client.recv(1024).startswith(b"HTTP/1.1 200")
        # A grace as short makes it hand over all at once.
        worker.retire(None, 0.1, True)
        deadline = time.monotonic() + EARLY
        while _runs(worker.pid) and time.monotonic() < deadline:
            time.sleep(0.05)  # our reactor stands still, and reads nothing
        await worker.ended
        await forks.stop()
    for one in given:
        os.close(one)
    assert len(given) == IDLE
    assert worker.why == "it ended"


def _runs(pid: int) -> bool:
    return " Z " not in Path(f"/proc/{pid}/stat").read_text()
