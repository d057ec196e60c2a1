"""What runs beside the site starts in order, and stops in the opposite order, whatever fails."""

import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
from pytest_twisted import ensureDeferred
from twisted.internet import reactor as installed_reactor
from twisted.internet.defer import Deferred
from twisted.logger import LogEvent, formatEvent
from twisted.web.resource import Resource as WebResource
from twisted.web.server import NOT_DONE_YET

from imgservice.concurrency.threads import Threads
from imgservice.config.sections import Config
from imgservice.http.limits import ServerLimits
from imgservice.http.site import StreamingSite
from imgservice.process.addresses import bind, read_address
from imgservice.process.components import Component, Components, OpenResource, Retiring
from imgservice.process.in_process import InProcess
from imgservice.process.serving import Built, Serving
from imgservice.process.sockets import Sockets
from imgservice.process.worker_pool import WorkerPoolError
from imgservice.troubles import Troubles
from imgservice.wiring.load import read_setup
from tests.http.serving import pause, until
from tests.logs import observed

reactor: Any = installed_reactor

REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


class Part:
    """Tells of what happens to it; may fail."""

    def __init__(
        self,
        events: list[str],
        name: str,
        fails_to: str = "",
        error: type[Exception] = OSError,
    ) -> None:
        self._events = events
        self._name = name
        self._fails_to = fails_to
        self._error = error

    def start(self) -> None:
        self._happens("start")

    async def stop(self) -> None:
        await pause(0)
        self._happens("stop")

    def _happens(self, what: str) -> None:
        if what == self._fails_to:
            raise self._error(f"{self._name} cannot {what}")
        self._events.append(f"{what} {self._name}")


class Worker(Part):
    """One that has background work."""

    def retire(self) -> None:
        self._happens("retire")


class Slow(WebResource):
    """Answers when it is told to."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.waiting: list[Any] = []

    def render_GET(self, request: Any) -> int:
        self.waiting.append(request)
        return NOT_DONE_YET


@attrs.define
class Health:
    is_leaving: bool = False


class Service:
    """A real site on a real socket, with components beside it."""

    def __init__(self, components: Sequence[Component]) -> None:
        self.page = Slow()
        site = StreamingSite(self.page, reactor=reactor, limits=ServerLimits())
        address = read_address("tcp:0:interface=127.0.0.1", 50)
        (self._bound,) = bind(address, 1, False, None)
        self.listening = [(address, self._bound)]
        self.port: int = self._bound.getsockname()[1]
        self.serving = Serving(reactor, Built(site, Health(), components), None, 0)

    async def start(self) -> None:
        await self.serving.start("own", self.listening)
        self._bound.close()

    async def connect(self) -> socket.socket:
        """Send a request that waits for its answer."""
        client = socket.create_connection(("127.0.0.1", self.port))
        client.sendall(REQUEST)
        await until(lambda: bool(self.page.waiting))
        return client


@contextmanager
def failures() -> Iterator[list[str]]:
    """Collect what is logged of failures, which then count as seen."""
    found: list[str] = []

    def note(event: LogEvent) -> None:
        if "log_failure" in event:
            found.append(f"{formatEvent(event)}: {event['log_failure'].getErrorMessage()}")

    with observed(note):
        yield found


@ensureDeferred
async def test_background_work_ends_before_requests_and_the_rest_after_them() -> None:
    events: list[str] = []
    parts = [Part(events, "database"), Worker(events, "recovery"), Worker(events, "probes")]
    service = Service(parts)
    await service.start()
    assert events == ["start database", "start recovery", "start probes"]
    with await service.connect() as client:
        events.clear()
        stopping = Deferred.fromCoroutine(service.serving.stop(20))
        await pause(0.2)
        assert events == ["retire probes", "retire recovery"]
        service.page.waiting.pop().finish()
        await stopping
        assert client.recv(100).startswith(b"HTTP/1.1 200")
    assert events[2:] == ["stop probes", "stop recovery", "stop database"]


@ensureDeferred
async def test_a_retiring_one_ends_in_the_same_order() -> None:
    events: list[str] = []
    service = Service([Part(events, "database"), Worker(events, "probes")])
    await service.start()
    with await service.connect():
        events.clear()
        retiring = Deferred.fromCoroutine(
            service.serving.retire(20, lambda _: True, lambda _: False)
        )
        await pause(0.2)
        assert events == ["retire probes"]
        service.serving.hasten(0)  # the request is cut off
        await retiring
    assert events[1:] == ["stop probes", "stop database"]


@ensureDeferred
async def test_a_failing_start_stops_those_that_started() -> None:
    events: list[str] = []
    parts = [Part(events, "database"), Worker(events, "probes")]
    service = Service([*parts, Part(events, "cache", "start"), Part(events, "never")])
    with pytest.raises(OSError, match="cache cannot start"):
        await service.start()
    assert events == ["start database", "start probes", "stop probes", "stop database"]
    service.listening[0][1].close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", service.port))


@ensureDeferred
async def test_a_component_that_fails_to_start_ends_the_start_of_the_service(
    tmp_path: Path,
) -> None:
    config = tmp_path / "imgservice.yaml"
    config.write_text("server: {listen: ['tcp:0:interface=127.0.0.1']}\n")
    setup, events = read_setup(config, 1), list[str]()

    def make(_config: Config, _troubles: Troubles) -> Built:
        site = StreamingSite(Slow(), reactor=reactor, limits=ServerLimits())
        broken = Part(events, "cache", "start", RuntimeError)
        return Built(site, Health(), [Part(events, "database"), broken])

    sockets = Sockets(lambda address, count, _: bind(address, count, False, None))
    sockets.prepare(setup.addresses, 1).begin()
    pool = InProcess(reactor, make)
    with failures() as logged, pytest.raises(WorkerPoolError, match="cache cannot start"):
        await pool.start(setup, sockets)
    sockets.close()
    assert events == ["start database", "stop database"]
    assert logged == ["The service failed to start: cache cannot start"]
    assert pool.report() == []


@ensureDeferred
async def test_a_socket_on_which_nobody_can_listen_starts_nothing() -> None:
    events: list[str] = []
    service = Service([Part(events, "database")])
    with ExitStack() as stack:
        other = stack.enter_context(socket.socket())
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", service.port))
        other.listen()
        with pytest.raises(OSError, match="in use"):
            await service.start()
    assert events == []
    service.listening[0][1].close()


@ensureDeferred
async def test_a_component_that_fails_to_end_keeps_no_other_from_it() -> None:
    events: list[str] = []
    parts = [
        Part(events, "database"),
        Worker(events, "probes", "retire"),
        Part(events, "cache", "stop"),
        Worker(events, "recovery"),
    ]
    service = Service(parts)
    await service.start()
    events.clear()
    with failures() as logged:
        await service.serving.stop(0)
    assert events == ["retire recovery", "stop recovery", "stop probes", "stop database"]
    assert logged == [
        "Component Worker failed to retire: probes cannot retire",
        "Component Part failed to stop: cache cannot stop",
    ]


@ensureDeferred
async def test_a_resource_is_released_when_those_after_it_have_stopped() -> None:
    events: list[str] = []
    threads = Threads(reactor, 1, "test")

    async def closed() -> None:
        await pause(0)
        events.append("closed")

    components = Components(
        [
            OpenResource("threads", threads.stop),
            OpenResource("database", closed),
            Part(events, "cache"),
        ]
    )
    await components.start()
    assert await threads.run(lambda: 1) == 1
    await components.stop()
    assert events == ["start cache", "stop cache", "closed"]
    with pytest.raises(RuntimeError):
        threads.run(lambda: 1)
    await components.stop()  # there is nothing left
    assert not isinstance(OpenResource("threads", threads.stop), Retiring)
