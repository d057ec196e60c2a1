"""What another node works on is deleted there: by nodes of ours, and one that tells what it got."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import pytest

from imgservice.auth.tokens import create
from tests.origin import Origin, origin
from tests.real.accounts import refusal
from tests.real.client import Client
from tests.real.roles import TRUSTED, caller
from tests.real.service import Service, free_port, running, wait_until
from tests.sharing.asking import begin_location, begin_upload
from tests.sharing.conftest import shared_url
from tests.sharing.other import Other

STAGE, HASH = "os_glance_stage_host", "os_glance_hash_op_host"
GONE = 404
FETCHING: Mapping[str, Any] = {
    "stores": {"local": {"type": "file", "path": "images"}, "web": {"type": "http"}},
    "import": {"filter": {"allowed_ports": [], "cidrs": ["127.0.0.1/32"]}},
}


@attrs.frozen
class Pair:
    """Two nodes on one database and one directory."""

    here: Service
    there: Service
    other: Other

    @property
    def owner(self) -> Client:
        return caller(self.here, "ours")

    def staged(self, host: str, **values: Any) -> str:
        """Return an image whose data waits on the host."""
        image_id = self.other.image(status="uploading", **values)
        self.other.property(image_id, STAGE, host)
        return image_id

    def status(self, image_id: str) -> str:
        return str(self.other.one("SELECT status FROM images WHERE id = :id", id=image_id)[0])


def deletions(service: Service, image_id: str) -> list[str]:
    """Return the status of each answer to a request to delete the image, in the log so far."""
    mark = f"DELETE /v2/images/{image_id} "
    lines = service.log.read_text().splitlines()
    return [line.split(mark)[1].split()[0] for line in lines if " access " in line and mark in line]


def await_deletions(service: Service, image_id: str, *answers: str) -> None:
    wait_until(lambda: deletions(service, image_id) == [*answers])


@pytest.fixture(scope="module", params=["postgresql", "mariadb"])
def pair(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pair]:
    directory = tmp_path_factory.mktemp(f"pair_{request.param}")
    url = shared_url(request, request.param, directory)
    ports = {"here": free_port(), "there": free_port()}
    nodes = {}
    for name, port in ports.items():
        (directory / name).mkdir()
        options: dict[str, Any] = {
            **TRUSTED,
            "database": {"url": url},
            "import": FETCHING["import"],
            "stores": {
                **FETCHING["stores"],
                "local": {"type": "file", "path": str(directory / "images")},
            },
            "node": {
                "url": f"http://127.0.0.1:{port}",
                "peers": [
                    *(f"http://127.0.0.1:{each}" for each in ports.values()),
                    f"http://localhost:{port}",
                    "http://127.0.0.1:9",
                ],
            },
            "server": {"listen": [f"tcp:{port}:interface=127.0.0.1"]},
        }
        nodes[name] = Service(directory / name, options)
        nodes[name].port = port
        nodes[name].client = Client("127.0.0.1", port)
    try:
        yield Pair(nodes["here"].start(), nodes["there"].start(), Other.on(url))
        for node in nodes.values():
            assert "Traceback" not in node.log.read_text()
    finally:
        for node in nodes.values():
            node.end()


def test_delete_goes_to_the_node_that_works_on_the_image(pair: Pair) -> None:
    image_id = pair.staged(pair.there.client.url)
    assert pair.owner.delete(f"/v2/images/{image_id}").status == 204
    assert pair.status(image_id) == "deleted"
    await_deletions(pair.there, image_id, "204")
    assert pair.owner.get(f"/v2/images/{image_id}").status == GONE


def test_the_work_there_ends_at_once(pair: Pair) -> None:
    """An upload that no other node could stop learns of the deletion with its next block."""
    owner_there = caller(pair.there, "ours")
    image_id = owner_there.create()
    with begin_upload(owner_there, image_id, (1 << 20) + 9, b"first") as upload:
        wait_until(lambda: pair.status(image_id) == "saving")
        pair.other.property(image_id, HASH, pair.there.client.url)
        assert pair.owner.delete(f"/v2/images/{image_id}").status == 204
        upload.sendall(bytes(1 << 20))
        assert upload.recv(100).startswith(b"HTTP/1.1 410")
    await_deletions(pair.there, image_id, "204")


def test_who_reads_a_location_says_so_and_can_be_stopped(pair: Pair) -> None:
    note = "SELECT value, deleted FROM image_properties WHERE image_id = :id AND name = :name"
    owner_there = caller(pair.there, "ours")
    with origin() as web:
        quick, slow = owner_there.create(), owner_there.create()
        data = {"url": web.put("/quick", b"data")}
        assert owner_there.post(f"/v2/images/{quick}/locations", data).status == 202
        assert pair.other.rows(note, id=quick, name=HASH) == [(pair.there.client.url, 1)]
        web.pause = 0.3
        with begin_location(owner_there, slow, web.put("/slow", bytes(64 << 20))) as reading:
            expected = [(pair.there.client.url, 0)]
            wait_until(lambda: pair.other.rows(note, id=slow, name=HASH) == expected)
            assert pair.owner.delete(f"/v2/images/{slow}").status == 204
            assert reading.recv(100).startswith(b"HTTP/1.1 410")
    await_deletions(pair.there, slow, "204")
    assert pair.owner.delete(f"/v2/images/{quick}").status == 204
    assert deletions(pair.there, quick) == []


def test_a_node_that_dies_while_it_reads_leaves_no_note(tmp_path: Path) -> None:
    options = {"node": {"url": "http://127.0.0.1:1"}, **FETCHING}
    with origin() as web, running(tmp_path, options) as service:
        web.pause = 0.3
        image_id = service.client.create()
        with begin_location(service.client, image_id, web.put("/slow", bytes(64 << 20))):
            query = "SELECT deleted FROM image_properties WHERE name = ?"
            wait_until(lambda: service.rows(query, HASH) == [(0,)])
            service.kill()
        service.start()
        wait_until(lambda: service.client.show(image_id)["status"] == "queued")
        assert service.rows(query, HASH) == [(1,)]


def test_what_that_node_objects_is_answered(pair: Pair) -> None:
    image_id = pair.staged(pair.there.client.url, protected=True)
    answer = pair.owner.delete(f"/v2/images/{image_id}", Accept="application/json")
    assert answer.status == 403
    assert "is protected" in answer.json()["message"]
    await_deletions(pair.there, image_id, "403")
    assert pair.status(image_id) == "uploading"


def test_a_node_that_cannot_be_reached_is_done_without(pair: Pair) -> None:
    image_id = pair.staged("http://127.0.0.1:9")
    assert pair.owner.delete(f"/v2/images/{image_id}").status == 204
    assert pair.status(image_id) == "deleted"
    assert f"DELETE http://127.0.0.1:9/v2/images/{image_id}: " in pair.here.log.read_text()


def test_who_may_not_delete_it_is_told_here(pair: Pair) -> None:
    image_id = pair.staged(pair.there.client.url, visibility="public")
    assert caller(pair.here, "theirs").delete(f"/v2/images/{image_id}").status == 403
    assert caller(pair.here, "ours", "reader").delete(f"/v2/images/{image_id}").status == 403
    assert deletions(pair.there, image_id) == []


def test_what_another_node_sends_here_is_done_here(pair: Pair) -> None:
    """Nodes of Glance mark nothing: the URL that they were told is ours, and that is enough."""
    image_id = pair.staged(f"{pair.here.client.url}/")
    assert pair.owner.delete(f"/v2/images/{image_id}").status == 204
    await_deletions(pair.here, image_id, "204")
    assert pair.status(image_id) == "deleted"


def test_another_url_of_this_node_is_no_loop(pair: Pair) -> None:
    image_id = pair.staged(f"http://localhost:{pair.here.port}")
    assert pair.owner.delete(f"/v2/images/{image_id}").status == 204
    await_deletions(pair.here, image_id, "204", "204")


def test_a_precondition_holds_for_the_other_node_as_well(pair: Pair) -> None:
    image_id = pair.staged(pair.there.client.url)
    path = f"/v2/images/{image_id}"
    assert pair.owner.delete(path, If_Match='"other"').status == 412
    assert deletions(pair.there, image_id) == []
    assert pair.owner.delete(path, If_Match=pair.owner.get(path).headers["etag"]).status == 204
    await_deletions(pair.there, image_id, "204")


# -- which node is asked, and what it gets ---------------------------------------------------------


@attrs.frozen
class Teller:
    """A service of static tokens, its token, and a node that tells what it got."""

    service: Service
    client: Client
    peer: Origin

    def staged(self, host: str) -> str:
        other = Other.on(f"sqlite:///{self.service.database}")
        image_id = other.image(status="uploading", owner="apollo")
        other.property(image_id, STAGE, host)
        return image_id

    def delete(self, image_id: str, **headers: str) -> int:
        return self.client.delete(f"/v2/images/{image_id}", **headers).status


@pytest.fixture(scope="module")
def teller(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Teller]:
    directory = tmp_path_factory.mktemp("teller")
    _, token = create(directory / "tokens", "ci", "apollo", ["member", "reader"])
    with origin() as peer:
        options = {
            "auth": {"mode": "tokens", "tokens": {"file": str(directory / "tokens")}},
            "node": {"url": "http://127.0.0.1:1", "peers": [peer.url("")]},
            "server": {"public_url": "http://127.0.0.1:2"},
        }
        with running(directory, options) as service:
            client = attrs.evolve(service.client, headers={"X-Auth-Token": token})
            yield Teller(service, client, peer)


def answer(teller: Teller, image_id: str, status: int, body: bytes = b"", **headers: str) -> None:
    """Let the peer answer so."""
    teller.peer.asked.clear()
    path = f"/v2/images/{image_id}"
    teller.peer.put(path, body, status=status, headers=headers)


def test_the_peer_gets_what_proves_who_asks_and_nothing_else(teller: Teller) -> None:
    image_id = teller.staged(teller.peer.url(""))
    answer(teller, image_id, 204)
    more = {"X-Roles": "admin", "X-Identity-Status": "Confirmed", "Cookie": "a=b"}
    assert teller.delete(image_id, X_OpenStack_Request_ID="req-7", **more) == 204
    [asked] = teller.peer.asked
    headers = {name.lower(): value for name, value in asked.headers.items()}
    assert (asked.method, asked.path) == ("DELETE", f"/v2/images/{image_id}")
    assert headers["x-auth-token"] == teller.client.headers["X-Auth-Token"]
    assert headers["x-openstack-request-id"] == "req-7"
    assert not {"x-roles", "x-identity-status", "cookie"} & headers.keys()


OBJECTIONS: Mapping[int, bytes] = {
    400: b"not JSON",
    403: json.dumps({"message": "It is protected.<br /><br />\n\n\n"}).encode(),
    409: json.dumps({"message": "x" * (65 << 10)}).encode(),
    412: b"[]",
}


@pytest.mark.parametrize("status", OBJECTIONS)
def test_objections_of_the_peer(teller: Teller, status: int) -> None:
    image_id = teller.staged(teller.peer.url(""))
    answer(teller, image_id, status, OBJECTIONS[status])
    path = f"/v2/images/{image_id}"
    found = teller.client.delete(path, Accept="application/json")
    told = found.json()["message"]
    reason = "The node that works on the image refuses."
    assert (found.status, told) == (status, "It is protected." if status == 403 else reason)
    assert teller.client.get(path).status == 200


@pytest.mark.parametrize("status", [200, 202])
def test_any_success_there_is_one_here(teller: Teller, status: int) -> None:
    image_id = teller.staged(teller.peer.url(""))
    answer(teller, image_id, status, b"done")
    assert teller.delete(image_id) == 204
    assert teller.client.get(f"/v2/images/{image_id}").status == 200  # it is the peer's to do


@pytest.mark.parametrize("status", [302, 401, 404, 405, 429, 500, 503])
def test_with_any_other_answer_the_image_is_deleted_here(teller: Teller, status: int) -> None:
    """And a redirect leads nowhere: the token is for the peer alone."""
    image_id = teller.staged(teller.peer.url(""))
    answer(teller, image_id, status, b"no", Location=teller.peer.url("/elsewhere"))
    assert teller.delete(image_id) == 204
    assert [asked.path for asked in teller.peer.asked] == [f"/v2/images/{image_id}"]
    assert teller.client.get(f"/v2/images/{image_id}").status == GONE


def test_what_was_handed_over_once_goes_no_further(teller: Teller) -> None:
    image_id = teller.staged(teller.peer.url(""))
    answer(teller, image_id, 403)
    assert teller.delete(image_id, X_Imgservice_Handed_Over="1") == 204
    assert teller.peer.asked == []


def test_strangers_get_nothing(teller: Teller) -> None:
    with origin() as stranger:
        for url in (stranger.url(""), teller.peer.url("/v2"), teller.peer.url("", "localhost"),
                    teller.peer.url("").replace("://", "://u:p@")):  # fmt: skip
            image_id = teller.staged(url)
            answer(teller, image_id, 403)
            assert teller.delete(image_id) == 204
            assert stranger.asked == teller.peer.asked == []


def test_without_a_list_this_host_is_no_node(tmp_path: Path) -> None:
    """Whatever stands in the database, a request does not go to what listens on loopback only."""
    with origin() as local, running(tmp_path) as service:
        other = Other.on(f"sqlite:///{service.database}")
        image_id = other.image(status="uploading", owner="admin")
        other.property(image_id, STAGE, local.url(""))
        assert service.client.delete(f"/v2/images/{image_id}").status == 204
        assert local.asked == []


def test_clients_cannot_name_a_node(teller: Teller) -> None:
    path = f"/v2/images/{teller.client.create()}"
    assert teller.client.post("/v2/images", {STAGE: teller.peer.url("")}).status == 403
    for operation in (
        {"op": "add", "path": f"/{HASH}", "value": teller.peer.url("")},
        {"op": "replace", "path": f"/{STAGE}", "value": teller.peer.url("")},
    ):
        type_ = {"Content-Type": "application/openstack-images-v2.1-json-patch"}
        body = json.dumps([operation]).encode()
        assert teller.client.request("PATCH", path, body, type_).status == 403
    assert teller.client.delete(path).status == 204


@pytest.mark.parametrize(
    ("node", "told"),
    [
        ({"url": "node1:9292"}, "node.url: expected a URL such as http://node1:9292, got 'node1"),
        ({"peers": ["http://node1:9292", "ftp://x"]}, "node.peers[1]: expected a URL"),
        ({"ca_file": "/dev/null"}, "node.ca_file: /dev/null: holds no certificates"),
    ],
)
def test_options_that_cannot_be(tmp_path: Path, node: dict[str, Any], told: str) -> None:
    assert told in refusal(tmp_path, {"node": node})
