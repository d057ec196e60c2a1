"""Behind the proxies of conf/: nginx and HAProxy, which do the TLS."""

import hashlib
import os
import signal
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import attrs
import pytest

from tests.process.load import LIVELY, load, slowly
from tests.process.observed import ObservedService, server_options
from tests.proxies import haproxy, nginx
from tests.real.client import Client, receive
from tests.real.service import Service, running, wait_until
from tests.real.streams import upload_head

DATA = os.urandom(3 << 20)
PROXIES = ["127.0.0.1"]


@attrs.frozen
class Behind:
    """A service, and the clients that reach it through a proxy and without."""

    service: Service
    through: Client

    @property
    def direct(self) -> Client:
        return self.service.client

    def sent_by_us(self, image_id: str) -> list[int]:
        """Return how many bytes each of our answers to a download of the image had."""
        path = f"/{image_id}/file "
        lines = [one for one in self.service.log.read_text().splitlines() if path in one]
        sent = [line.partition(" out=")[2].split()[0] for line in lines if " GET " in line]
        return [int(one) for one in sent]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Behind]:
    directory = tmp_path_factory.mktemp("nginx")
    options = {"server": {"trusted_proxies": PROXIES}}
    with (
        running(directory, options) as service,
        nginx(directory / "proxy", service.port, service.store) as client,
    ):
        yield Behind(service, client)


@pytest.fixture(scope="module")
def accelerated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Behind]:
    directory = tmp_path_factory.mktemp("accel")
    options = {
        "server": {"trusted_proxies": PROXIES},
        "transfer": {"accel": "/stored"},
        "stores": {
            "local": {"type": "file", "path": str(directory / "images")},
            "volatile": {"type": "memory"},
        },
        "default_store": "local",
    }
    with running(directory, options) as service:
        with nginx(directory / "proxy", service.port, service.store) as client:
            yield Behind(service, client)
        for image in service.client.get("/v2/images?limit=1000").json()["images"]:
            service.client.delete(f"/v2/images/{image['id']}")


BOTH = pytest.mark.parametrize("behind", ["plain", "accelerated"], indirect=True)


@pytest.fixture
def behind(request: pytest.FixtureRequest) -> Behind:
    found: Behind = request.getfixturevalue(request.param)
    return found


# -- nginx ----------------------------------------------------------------------------------------


@BOTH
def test_uploads_and_downloads(behind: Behind) -> None:
    client = behind.through
    for body in (DATA, slowly(DATA)):  # with a length, and in chunks
        image_id = client.create()
        assert client.upload(image_id, body).status == 204
        shown = client.show(image_id)
        assert shown["checksum"] == hashlib.md5(DATA).hexdigest()
        reply = client.download(image_id)
        assert (reply.status, reply.body == DATA) == (200, True)
        assert reply.headers["content-length"] == str(len(DATA))


@BOTH
def test_downloads_have_the_same_headers(behind: Behind) -> None:
    image_id = behind.direct.active(DATA)
    # With a condition we send the data even to a proxy.
    ours = behind.direct.download(image_id, If_None_Match='"other"')
    theirs = behind.through.download(image_id)
    assert theirs.body == ours.body
    for name in ("content-type", "etag", "last-modified", "content-md5", "repr-digest",
                 "content-length", "accept-ranges"):  # fmt: skip
        assert theirs.headers[name] == ours.headers[name], name
    assert theirs.headers["x-openstack-request-id"].startswith("req-")
    head = behind.through.request("HEAD", f"/v2/images/{image_id}/file")
    assert head.headers["content-length"] == str(len(DATA))
    assert head.headers["etag"] == ours.headers["etag"]


@BOTH
def test_parts_and_conditions(behind: Behind) -> None:
    client, image_id = behind.through, behind.direct.active(DATA)
    for asked, start, end in (
        ("bytes=0-0", 0, 1),
        ("bytes=1000-1999", 1000, 2000),
        ("bytes=2000000-", 2_000_000, len(DATA)),
        ("bytes=-7", len(DATA) - 7, len(DATA)),
    ):
        reply = client.download(image_id, Range=asked)
        assert (reply.status, reply.body == DATA[start:end]) == (206, True), asked
        assert reply.headers["content-range"] == f"bytes {start}-{end - 1}/{len(DATA)}"
    assert client.download(image_id, Range=f"bytes={len(DATA)}-").status == 416
    assert client.download(image_id, Range="bytes=0-1,5-6").status == 400
    whole = client.download(image_id)
    etag, modified = whole.headers["etag"], whole.headers["last-modified"]
    assert client.download(image_id, If_None_Match=etag).status == 304
    assert client.download(image_id, If_Modified_Since=modified).status == 304
    assert client.download(image_id, If_Match='"other"').status == 412
    assert client.download(image_id, If_Match=etag).body == DATA
    assert client.download(image_id, If_Unmodified_Since=modified).body == DATA
    assert client.download(image_id, If_None_Match='"other"').body == DATA
    assert client.download(image_id, If_Range=etag, Range="bytes=5-9").body == DATA[5:10]
    assert client.download(image_id, If_Range='"other"', Range="bytes=5-9").body == DATA
    old = client.request(
        "GET", f"/v2/images/{image_id}/file", headers={"Content-Range": "bytes 5-9/*"}
    )
    assert (old.status, old.body) == (206, DATA[5:10])


@BOTH
def test_a_body_waits_until_it_is_wanted(behind: Behind) -> None:
    image_id = behind.through.create()
    with behind.through.connect() as connection:
        fields = ("Content-Length: 1000", "Expect: 100-continue")
        connection.sendall(upload_head(image_id, *fields))
        interim = connection.recv(25)
        assert interim == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(bytes(1000))
        assert receive(connection).status == 204


@BOTH
def test_an_upload_arrives_while_it_is_sent(behind: Behind) -> None:
    image_id = behind.through.create()
    with behind.through.connect() as connection:
        head = upload_head(image_id, "Content-Length: 1000000")
        connection.sendall(head + bytes(500_000))
        wait_until(lambda: behind.direct.show(image_id)["status"] == "saving")
        connection.sendall(bytes(500_000))
        assert receive(connection).status == 204


@BOTH
def test_links_are_those_of_the_proxy(behind: Behind) -> None:
    links = behind.through.get("/versions").json()["versions"][0]["links"]
    assert links[0]["href"] == f"{behind.through.url}/v2/"
    assert behind.direct.get("/versions").json()["versions"][0]["links"][0]["href"] == (
        f"{behind.direct.url}/v2/"
    )


@BOTH
def test_refusals_stay_what_they_are(behind: Behind) -> None:
    client = behind.through
    assert client.download("0b7ea1f6-5a4a-4a67-8b2b-6a1c0e1d9c11").status == 404
    assert client.download(client.create()).status == 204
    image_id = client.active(DATA)
    assert client.put(f"/v2/images/{image_id}/file", b"again").status == 409


# -- X-Accel-Redirect -----------------------------------------------------------------------------


def test_nginx_sends_what_lies_in_files(accelerated: Behind) -> None:
    image_id = accelerated.direct.active(DATA)
    assert accelerated.through.download(image_id).body == DATA
    assert accelerated.through.download(image_id, Range="bytes=5-9").body == DATA[5:10]
    wait_until(lambda: accelerated.sent_by_us(image_id) == [0, 0])


def test_other_stores_are_read_by_us(accelerated: Behind) -> None:
    client, image_id = accelerated.through, accelerated.through.create()
    assert client.upload(image_id, DATA, X_Image_Meta_Store="volatile").status == 204
    assert client.download(image_id).body == DATA
    wait_until(lambda: accelerated.sent_by_us(image_id) == [len(DATA)])


def test_clients_cannot_ask_for_files(accelerated: Behind) -> None:
    image_id = accelerated.through.active(DATA)
    for path in (
        f"/stored/local/{image_id}",
        f"/stored//local/{image_id}",
        f"/v2/../stored/local/{image_id}",
        f"/%73tored/local/{image_id}",
        f"/stored/local/../local/{image_id}",
    ):
        for name in ("X-Accel-Redirect", "X-Accel-Mapping", "X-Original-URI"):
            headers = {name: f"/stored/local/{image_id}"}
            reply = accelerated.through.request("GET", path, headers=headers)
            assert reply.status in (300, 404), path
            assert DATA[:100] not in reply.body


def test_a_file_that_is_gone_is_no_data(accelerated: Behind) -> None:
    image_id = accelerated.through.active(DATA)
    (accelerated.service.store / image_id).unlink()
    assert accelerated.through.download(image_id).status == 204
    (accelerated.service.store / image_id).write_bytes(DATA)


def test_whoever_is_no_proxy_gets_the_data(tmp_path: Path) -> None:
    options = {
        "server": {"trusted_proxies": ["192.0.2.1"]},
        "transfer": {"accel": "/stored"},
    }
    with running(tmp_path, options) as service:
        image_id = service.client.active(DATA)
        reply = service.client.download(image_id, X_Forwarded_For="192.0.2.1")
        assert reply.body == DATA
        assert "x-accel-redirect" not in reply.headers


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"transfer": {"accel": "/stored"}}, "transfer.accel: needs server.trusted_proxies"),
        (
            {"transfer": {"accel": "stored"}, "server": {"trusted_proxies": PROXIES}},
            "transfer.accel: expected a path such as /stored",
        ),
    ],
)
def test_what_cannot_work_ends_the_start(
    tmp_path: Path, options: dict[str, object], complaint: str
) -> None:
    service = Service(tmp_path, options)
    with pytest.raises(AssertionError, match=complaint):
        service.start()


# -- HAProxy --------------------------------------------------------------------------------------


class Node(ObservedService):
    """Speaks the PROXY protocol at its only port."""

    def _options(self, more: Mapping[str, Any]) -> dict[str, Any]:
        listen = [f"haproxy:tcp:{self.port}:interface=127.0.0.1"]
        return super()._options({**more, "server": {"listen": listen, **more["server"]}})


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Sequence[Node]]:
    """Two of them, which share everything."""
    shared = tmp_path / "one"
    options = {
        **server_options(0, drain_delay=5, public_url="https://images.example"),
        "database": {"url": f"sqlite:///{shared}/imgservice.db"},
        "stores": {"local": {"type": "file", "path": f"{shared}/images"}},
    }
    with ExitStack() as stack:
        made = []
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
            node = Node(tmp_path / name, options)
            node.database, node.store = shared / "imgservice.db", shared / "images"
            node.make_tables()
            stack.callback(node.end)
            node.start()
            node.until(1)
            made.append(node)
        yield made
        for node in made:
            node.stop()


def test_haproxy_tells_who_asks(tmp_path: Path, nodes: Sequence[Node]) -> None:
    with haproxy(tmp_path / "proxy", [node.port for node in nodes]) as client:
        for body in (DATA, slowly(DATA)):
            image_id = client.create()
            assert client.upload(image_id, body).status == 204
            assert client.download(image_id).body == DATA
            assert client.download(image_id, Range="bytes=5-9").body == DATA[5:10]
        links = client.get("/versions").json()["versions"][0]["links"]
        assert links[0]["href"] == "https://images.example/v2/"
        with socket.create_connection(("127.0.0.1", client.port), 30) as plain:
            plain.sendall(b"GET /v2/images HTTP/1.1\r\nHost: x\r\n\r\n")
            assert not plain.recv(1 << 16).startswith(b"HTTP/1.1 200")  # it is TLS only

        def are_logged() -> bool:
            return all(" 127.0.0.1 " in node.log.read_text() for node in nodes)

        wait_until(are_logged)


def test_haproxy_leaves_a_drained_node_alone(tmp_path: Path, nodes: Sequence[Node]) -> None:
    first, second = nodes
    with haproxy(tmp_path / "proxy", [node.port for node in nodes]) as client:
        with load(client, client.active(DATA)) as state:
            for node, other in ((first, second), (second, first)):
                node.signal(signal.SIGUSR1)
                wait_until(lambda at=node: at.state()["phase"] == "drained")
                served = other.workers()[0]["requests"]
                wait_until(lambda at=other, than=served: at.workers()[0]["requests"] > than + 20)
                node.signal(signal.SIGUSR2)
                served = node.workers()[0]["requests"]
                wait_until(lambda at=node, than=served: at.workers()[0]["requests"] > than + 20)
            wait_until(state.is_lively, LIVELY)
        assert state.failures == []
