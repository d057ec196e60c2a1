"""A Keystone that is killed, silent, started again, or asked for very much, under load."""

import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from signal import SIGCONT, SIGSTOP

import attrs
import pytest

from tests.keystone import Keystone, started
from tests.real.client import Client, receive
from tests.real.service import Service, free_port, running, wait_until
from tests.real.troubles import readiness, told_troubles

TIMEOUT = 4.0
CACHE_TIME = 2.0
UNLIMITED = {"rate": {"address": {"exempt": ["127.0.0.1"]}}}
"""Else an address that sends so many wrong tokens is told to wait."""
SLACK = 40.0
"""Seconds that an answer may be late where the machine has much else to do."""


@pytest.fixture(scope="module")
def frail(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keystone]:
    """Return a Keystone that may be broken, but must be whole again afterwards."""
    with started(tmp_path_factory.mktemp("frail")) as one:
        yield one


@pytest.fixture(scope="module")
def service(frail: Keystone, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    auth = frail.auth(timeout=TIMEOUT, cache_time=CACHE_TIME)
    options = {"auth": auth, "limits": UNLIMITED}
    with running(tmp_path_factory.mktemp("service"), options) as one:
        yield one


def ask(service: Service, token: str) -> int:
    return service.client.get("/v2/images", X_Auth_Token=token).status


# -- under load -----------------------------------------------------------------------------------


@attrs.frozen
class Seen:
    kind: str
    begin: float
    seconds: float
    status: int


class Load:
    """Asks all the time: with a token that is known, with new ones, and with made-up ones."""

    def __init__(self, service: Service, known: str, new: Sequence[str]) -> None:
        self._service = service
        self._ending = threading.Event()
        self._new = list(new)
        self._lock = threading.Lock()
        self._number = 0
        self.seen: list[Seen] = []
        kinds: Sequence[tuple[str, Callable[[], str]]] = (
            ("known", lambda: known),
            ("new", self._next_new),
            ("made up", self._next_made_up),
            ("made up", self._next_made_up),
        )
        self._threads = [threading.Thread(target=self._ask, args=one) for one in kinds]

    def _next_new(self) -> str:
        """Return the tokens in turn: they come back only after they are forgotten."""
        with self._lock:
            self._new.append(self._new.pop(0))
            return self._new[-1]

    def _next_made_up(self) -> str:
        with self._lock:
            self._number += 1
            return f"gAAAAAmade-up{self._number}"

    def _ask(self, kind: str, token: Callable[[], str]) -> None:
        while not self._ending.is_set():
            begin = time.monotonic()
            status = ask(self._service, token())
            self.seen.append(Seen(kind, begin, time.monotonic() - begin, status))
            self._ending.wait(0.05)

    @contextmanager
    def going(self) -> Iterator["Load"]:
        for thread in self._threads:
            thread.start()
        try:
            yield self
        finally:
            self._ending.set()
            for thread in self._threads:
                thread.join()

    def is_well(self) -> bool:
        """Tell whether each kind of token has had the right answer some times in a row."""
        wanted = {"known": 200, "new": 200, "made up": 401}
        latest = [[one.status for one in self.seen if one.kind == kind][-10:] for kind in wanted]
        return latest == [[status] * 10 for status in wanted.values()]

    def between(self, kind: str, begin: float, end: float) -> list[Seen]:
        return [
            one
            for one in self.seen
            if one.kind == kind and one.begin >= begin and one.begin + one.seconds <= end
        ]


@contextmanager
def killed(keystone: Keystone) -> Iterator[None]:
    keystone.kill()
    yield
    keystone.start()


@contextmanager
def silent(keystone: Keystone) -> Iterator[None]:
    keystone.signal(SIGSTOP)
    try:
        yield
    finally:
        keystone.signal(SIGCONT)


@pytest.mark.parametrize("broken", [killed, silent])
def test_broken_and_whole_again_under_load(
    frail: Keystone, service: Service, broken: Callable[[Keystone], AbstractContextManager[None]]
) -> None:
    """Nobody gets in who must not, nobody waits too long, and all is well in the end."""
    known, new = frail.token("demo", "demo"), [frail.token("alt", "alt") for _ in range(50)]
    with Load(service, known, new).going() as load:
        wait_until(lambda: {one.kind for one in load.seen} == {"known", "new", "made up"})
        with broken(frail):
            begin = time.monotonic()
            forgotten = begin + CACHE_TIME + 2
            wait_until(lambda: len(load.between("known", forgotten, time.monotonic())) >= 2)
            end = time.monotonic()
        wait_until(lambda: ask(service, frail.token("demo", "demo")) == 200, 60)
        wait_until(load.is_well)
    assert {one.status for one in load.seen if one.kind == "made up"} <= {401, 503}
    assert {one.status for one in load.seen if one.kind != "made up"} <= {200, 503}
    assert max(one.seconds for one in load.seen) < TIMEOUT + SLACK
    # As long as it is remembered, a token works; then nobody gets in.
    assert {one.status for one in load.between("known", forgotten, end)} == {503}
    assert {one.status for one in load.between("made up", begin + 0.2, end)} == {503}
    assert "Traceback" not in service.log.read_text()


def test_remembered_tokens_need_no_keystone(frail: Keystone, tmp_path: Path) -> None:
    with running(tmp_path, {"auth": frail.auth(timeout=TIMEOUT)}) as service:
        client = frail.client(service)
        image_id = client.active(b"data")
        with silent(frail):
            begin = time.monotonic()
            for _ in range(50):
                assert client.download(image_id).body == b"data"
            assert time.monotonic() - begin < SLACK
            reply = service.client.get("/v2/images", X_Auth_Token="unknown")
            assert reply.status == 503
            assert int(reply.headers["retry-after"]) > 0
            assert service.client.get("/v2/images").status == 401  # no token: nothing to ask
            assert service.client.get("/versions").status == 200
        with killed(frail):
            assert client.download(image_id).body == b"data"
            assert ask(service, "another") == 503


def test_start_without_keystone(tmp_path: Path) -> None:
    """The service starts before Keystone, says so, and works as soon as Keystone does."""
    (tmp_path / "keystone").mkdir()
    keystone = Keystone(tmp_path / "keystone")
    try:
        with running(tmp_path, {"auth": keystone.auth(timeout=TIMEOUT)}) as service:
            assert ask(service, "made-up") == 503
            wait_until(lambda: readiness(service.client) == (503, ["keystone"]))
            assert service.client.get("/healthcheck").status == 200
            keystone.start()
            wait_until(lambda: readiness(service.client) == (200, []))  # nobody asks anything
            wait_until(lambda: ask(service, "made-up") == 401)
            wait_until(lambda: ask(service, keystone.token("demo", "demo")) == 200)
        begin, *_, end = told_troubles(service)
        assert f" error Keystone at {keystone.url} fails: it cannot be reached" in begin
        assert f" warn Keystone at {keystone.url} works again after " in end
    finally:
        keystone.kill()


def test_failover_between_two(frail: Keystone, keystone: Keystone, tmp_path: Path) -> None:
    urls = [f"http://127.0.0.1:{free_port()}/v3", frail.url, keystone.url]
    auth = frail.auth(url=urls, timeout=3 * TIMEOUT, cache_time=0)
    with running(tmp_path, {"auth": auth}) as service:
        token = keystone.token("demo", "demo")
        assert ask(service, token) == 200
        with silent(frail):
            assert {ask(service, token) for _ in range(20)} == {200}
            assert ask(service, "made-up") == 401
        with silent(keystone):
            assert {ask(service, token) for _ in range(20)} == {200}


# -- very many tokens -----------------------------------------------------------------------------

MANY = 400


def test_hundreds_of_new_tokens_do_not_stall_others(keystone: Keystone, tmp_path: Path) -> None:
    """They are asked about a few at a time; who is known is served meanwhile."""
    with running(tmp_path, {"auth": keystone.auth(), "limits": UNLIMITED}) as service:
        client = keystone.client(service)
        image_id = client.create()
        good = [keystone.token("alt", "alt") for _ in range(20)]
        made_up = [f"gAAAAAmade-up{number}" for number in range(MANY - len(good))]
        shows: list[float] = []
        ending = threading.Event()
        showing = threading.Thread(target=show, args=(client, image_id, shows, ending))
        showing.start()
        try:
            statuses = ask_at_once(service, [*good, *made_up])
        finally:
            ending.set()
            showing.join()
        assert set(statuses[: len(good)]) <= {200, 503}
        assert set(statuses[len(good) :]) <= {401, 503}
        assert statuses.count(401) > 10
        assert len(shows) > 5
        assert sorted(shows)[int(len(shows) * 0.99)] < SLACK / 2
        assert {ask(service, token) for token in good} == {200}


def show(client: Client, image_id: str, shows: list[float], ending: threading.Event) -> None:
    while not ending.is_set():
        begin = time.monotonic()
        assert client.get(f"/v2/images/{image_id}").status == 200
        shows.append(time.monotonic() - begin)


def ask_at_once(service: Service, tokens: Sequence[str]) -> list[int]:
    """Send all requests, each on a connection of its own, before the first answer is read."""
    connections: list[socket.socket] = []
    try:
        for token in tokens:
            connection = service.client.connect()
            connection.sendall(
                f"GET /v2/images HTTP/1.1\r\nHost: x\r\nX-Auth-Token: {token}\r\n\r\n".encode()
            )
            connections.append(connection)
        return [receive(connection).status for connection in connections]
    finally:
        for connection in connections:
            with closing(connection):
                pass
